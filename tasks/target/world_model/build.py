"""World model: say the state of a small described system after some steps or an intervention.

`python tasks/target/world_model/build.py` writes the splits. Systems: two tanks, an inventory, a
queue, a thermostat, a traffic light. The answer lists every state variable.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question
from retainbench.tasks._splits import freeze_splits


def tanks(rng: Random) -> tuple[str, list[str]]:
    """Two tanks; water flows from A to B each step, and once some is taken out of B."""
    flow, steps, taken = rng.randint(1, 5), rng.randint(1, 3), rng.choice([0, 0, rng.randint(1, 5)])
    first, second = rng.randint(flow * steps, 30), rng.randint(taken, 20)
    out = f" Then {taken} is taken from B." if taken else ""
    text = (
        f"Tank A holds {first} and tank B holds {second}. Each step {flow} flows from A to B.{out}"
    )
    ask = f"What do A and B hold after {steps} step{'s' if steps > 1 else ''}?"
    return f"{text} {ask}", [str(first - flow * steps), str(second + flow * steps - taken)]


def inventory(rng: Random) -> tuple[str, list[str]]:
    """A shop sells each day and may receive a delivery."""
    sold, days, extra = rng.randint(1, 6), rng.randint(1, 3), rng.choice([0, rng.randint(5, 20)])
    start = rng.randint(sold * days, 40)
    delivery = f" A delivery of {extra} arrives." if extra else ""
    text = f"A shop has {start} boxes and sells {sold} each day.{delivery}"
    ask = f"How many boxes are left after {days} day{'s' if days > 1 else ''}?"
    return f"{text} {ask}", [str(start - sold * days + extra)]


def queue(rng: Random) -> tuple[str, list[str]]:
    """A queue that people join and leave; it cannot be shorter than empty."""
    start, joins, leaves = rng.randint(2, 30), rng.randint(0, 6), rng.randint(0, 6)
    minutes = rng.randint(1, 3)
    length = start
    for _ in range(minutes):
        length = max(0, length + joins - leaves)
    text = f"A queue has {start} people. Each minute {joins} join and {leaves} leave."
    ask = f"How many wait after {minutes} minute{'s' if minutes > 1 else ''}?"
    return f"{text} {ask}", [str(length)]


def thermostat(rng: Random) -> tuple[str, list[str]]:
    """Below the set point the heater is on and warms, else it is off and the room cools."""
    goal, gain, loss = rng.randint(18, 24), rng.randint(1, 4), rng.randint(1, 2)
    degrees, hours = rng.randint(goal - 6, goal + 3), rng.randint(1, 2)
    start = degrees
    for _ in range(hours):
        degrees += gain if degrees < goal else -loss
    state = "on" if degrees < goal else "off"
    text = f"A room is at {start}. Below {goal} the heater is on and adds {gain} an hour,"
    text += f" else it is off and the room loses {loss}."
    ask = f"What are the room and the heater after {hours} hour{'s' if hours > 1 else ''}?"
    return f"{text} {ask}", [str(degrees), state]


def light(rng: Random) -> tuple[str, list[str]]:
    """A traffic light that has just turned green."""
    green, yellow, red = rng.randint(2, 9), rng.randint(1, 2), rng.randint(2, 9)
    after = rng.randint(1, green + yellow + red - 1)
    colour = "green" if after < green else "yellow" if after < green + yellow else "red"
    text = f"A light is green for {green} minutes, then yellow for {yellow}, then red for {red}."
    return f"{text} It has just turned green. What is it after {after} minutes?", [colour]


SYSTEMS = {
    "tanks": tanks,
    "inventory": inventory,
    "queue": queue,
    "thermostat": thermostat,
    "light": light,
}


def problem(rng: Random) -> tuple[Question, dict[str, object]]:
    """A system, what happens, and its state afterwards."""
    name = rng.choice(list(SYSTEMS))
    query, state = SYSTEMS[name](rng)
    return Question(query, ", ".join(state), (), name), {}


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    freeze_splits(folder, problem)


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
