"""Small results as lm-eval 0.4, lighteval 0.13 and Inspect 0.3 write them, for tests of adoption.

The shapes were taken from files that the programs themselves wrote (lm-eval's command, lighteval's
`EvaluationTracker.save`, inspect_ai's `eval` with `mockllm/model`); only what is read is kept.
`run_lm_eval` runs the real lm-eval on a random model.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

DATE = "2026-11-22T22-09-27.328179"


def lm_eval_row(i: int, *, right: bool = True, **changes: Any) -> dict[str, Any]:
    """One row as lm-eval's tracker writes it: nested arguments, numbers as text."""
    gold, other = (-1.0, -3.0) if right else (-3.0, -1.0)
    arguments = {f"gen_args_{k}": {"arg_0": f"Q{i}", "arg_1": f" {k}"} for k in range(3)}
    return {
        "doc_id": i,
        "doc": {"query": f"Q{i}", "topic": f"t{i // 2}"},
        "target": "1",
        "arguments": arguments,
        "resps": [],
        "filtered_resps": [[str(value), "False"] for value in (other, gold, -4.0)],
        "filter": "none",
        "metrics": ["acc", "acc_norm"],
        "doc_hash": f"d{i}",
        "prompt_hash": f"p{i}",
        "target_hash": "t",
        "acc": float(right),
        "acc_norm": 0.0,
    } | changes


def lm_eval_run(out: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """A folder of one lm-eval run over one multiple-choice task."""
    results = {
        "results": {},
        "configs": {"tiny": {"output_type": "multiple_choice", "num_fewshot": 0}},
        "versions": {"tiny": 1},
        "n-shot": {"tiny": 0},
        "n-samples": {"tiny": {"original": 4, "effective": 4}},
        "higher_is_better": {"tiny": {"acc": True, "acc_norm": True}},
        "config": {"limit": None, "use_cache": None, "model_dtype": "torch.float32"},
        "lm_eval_version": "0.4.13",
        "model_name": "org/model",
        "task_hashes": {"tiny": "abc"},
        "chat_template_sha": None,
    } | changes
    out.mkdir(parents=True, exist_ok=True)
    (out / f"results_{DATE}.json").write_text(json.dumps(results))
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (out / f"samples_tiny_{DATE}.jsonl").write_text(lines)
    return out


def lighteval(out: Path, right: list[bool], **config: Any) -> Path:
    """A run of one log-likelihood task and one generated task over `len(right)` items each."""
    choice_rows = [_lighteval_choice(i, ok) for i, ok in enumerate(right)]
    free_rows = [_lighteval_free(i, ok) for i, ok in enumerate(right)]
    details = out / "details" / "org" / "model" / DATE
    details.mkdir(parents=True)
    for task, rows in (("tiny_mc|0", choice_rows), ("tiny_ff|0", free_rows)):
        parquet.write_table(pa.Table.from_pylist(rows), details / f"details_{task}_{DATE}.parquet")
    tasks = {
        task: {
            "num_fewshots": 0,
            "effective_num_docs": len(right),
            "metrics": [{"metric_name": metric, "higher_is_better": True}],
            **config,
        }
        for task, metric in (("tiny_mc|0", "acc"), ("tiny_ff|0", "em"))
    }
    hashes = {"hashes": {"hash_examples": "74d3", "hash_input_tokens": "411e"}}
    results = {
        "config_general": {"model_name": "org/model", "max_samples": None, "model_config": {}},
        "config_tasks": tasks,
        "summary_tasks": dict.fromkeys(tasks, hashes),
    }
    folder = out / "results" / "org" / "model"
    folder.mkdir(parents=True)
    (folder / f"results_{DATE}.json").write_text(json.dumps(results))
    return out


def _lighteval_choice(i: int, right: bool) -> dict[str, Any]:
    doc = {"query": f"{i}+{i}?", "choices": ["yes", str(2 * i), "no"], "gold_index": 1}
    doc |= {"id": str(i), "instruction": None, "specific": {"topic": f"t{i // 2}"}}
    logprobs = [-3.0 if right else -1.0, -2.0, -4.0]
    answer = {"input": doc["query"], "text": [], "logprobs": logprobs, "text_post_processed": None}
    return {"doc": doc, "metric": {"acc": float(right)}, "model_response": answer}


def _lighteval_free(i: int, right: bool) -> dict[str, Any]:
    doc = {"query": f"{i}+{i}=", "choices": [str(2 * i)], "gold_index": 0, "id": str(i)}
    answer = {"input": doc["query"], "text": [str(2 * i) if right else ""], "logprobs": []}
    return {"doc": doc, "metric": {"em": int(right)}, "model_response": answer}


def inspect_log(task: str, values: list[Any], epochs: int = 1, **spec: Any) -> dict[str, Any]:
    """An Inspect log with one sample per value (C, I, N, 0.5, ...) and epoch."""
    samples = [
        {
            "id": number,
            "epoch": epoch,
            "input": f"What is {number}+{number}?",
            "choices": ["1", "2", "4"],
            "target": "B",
            "messages": [
                {"id": f"random-{epoch}", "role": "user", "content": f"{number}+{number}?"},
                {"id": "random", "role": "assistant", "content": "ANSWER: B"},
            ],
            "output": {"completion": "ANSWER: B"},
            "scores": {"choice": {"value": value}},
            "metadata": {"topic": f"t{number // 2}"},
        }
        for epoch in range(1, epochs + 1)
        for number, value in enumerate(values)
    ]
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "task": task,
            "task_version": 0,
            "model": "mockllm/model",
            "config": {"epochs": epochs},
            "packages": {"inspect_ai": "0.3.285"},
        }
        | spec,
        "plan": {"steps": [{"solver": "multiple_choice", "params": {}}]},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [{"name": "choice"}],
        },
        "samples": samples,
    }


def archive(path: Path, log: dict[str, Any]) -> Path:
    """The log as a deflated `.eval` archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("_journal/start.json", "{}")
        opened.writestr("header.json", json.dumps({k: v for k, v in log.items() if k != "samples"}))
        for sample in log["samples"]:
            name = f"samples/{sample['id']}_epoch_{sample['epoch']}.json"
            opened.writestr(name, json.dumps(sample))
    return path


def zstandard_zip(path: Path, files: dict[str, bytes], damage: bool = False) -> Path:
    """An archive with method 93, which Python 3.11's zipfile can neither write nor read."""
    body, directory = b"", b""
    for name, data in files.items():
        packed = pa.Codec("zstd").compress(data, asbytes=True)
        crc = zlib.crc32(data) ^ damage
        fields = struct.pack(
            "<HHHHHIIIHH", 63, 0, 93, 0, 33, crc, len(packed), len(data), len(name), 0
        )
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + fields
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + fields + name.encode() + packed
    end = struct.pack("<HHHHIIH", 0, 0, len(files), len(files), len(directory), len(body), 0)
    path.write_bytes(body + directory + b"PK\x05\x06" + end)
    return path


def run_lm_eval(tmp_path: Path, out: Path) -> dict[str, Any]:
    """lm-eval on a random two-task set with a random Llama; also writes what its CLI writes."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    folder = write_tasks(tmp_path / "tasks")
    model, tokenizer = tiny_model()
    tracker = EvaluationTracker(output_path=str(out))
    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=4),
        tasks=["tiny_mc", "tiny_ff"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
        random_seed=None,
        numpy_random_seed=None,
        torch_random_seed=None,
    )
    stored = json.loads(json.dumps(results, default=str))
    samples = results["samples"]
    rest = {key: value for key, value in results.items() if key != "samples"}
    tracker.save_results_aggregated(results=rest, samples=samples)
    memory = {**results, "samples": {k: [dict(row) for row in v] for k, v in samples.items()}}
    for task, rows in stored["samples"].items():
        tracker.save_results_samples(task_name=task, samples=rows)
    return memory


def write_tasks(folder: Path) -> Path:
    """Five items of multiple choice and five of free form, as any lm-eval user would write them."""
    folder.mkdir()
    (folder / "rows.py").write_text(
        "import datasets\n\n\ndef load(**_):\n"
        "    rows = [{'id': f'i{n}', 'query': f'{n} plus {n}?', 'answer': str(2 * n),"
        " 'gold': n % 3, 'choices': ['yes', str(2 * n), 'no'],"
        " 'cluster': f'g{n // 2}'} for n in range(5)]\n"
        "    return {'test': datasets.Dataset.from_list(rows)}\n"
    )
    shared = (
        "custom_dataset: !function rows.load\ntest_split: test\n"
        'doc_to_text: "Question: {{query}}\\nAnswer:"\nmetadata: {version: 1}\n'
    )
    (folder / "mc.yaml").write_text(
        f"task: tiny_mc\n{shared}output_type: multiple_choice\ndoc_to_choice: choices\n"
        "doc_to_target: gold\nmetric_list: [{metric: acc}, {metric: acc_norm}]\n"
    )
    (folder / "ff.yaml").write_text(
        f"task: tiny_ff\n{shared}output_type: generate_until\ndoc_to_target: answer\n"
        'generation_kwargs: {until: ["\\n"], max_gen_toks: 4, do_sample: false}\n'
        "metric_list: [{metric: exact_match}]\nfilter_list:\n"
        '  - {name: strict, filter: [{function: regex, regex_pattern: "(\\\\d+)"}, '
        "{function: take_first}]}\n"
        "  - {name: loose, filter: [{function: take_first}]}\n"
    )
    return folder


def tiny_model() -> tuple[Any, Any]:
    """A one-layer random Llama with a byte-level tokenizer; nothing is downloaded."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    raw.train_from_iterator(["Question Answer plus yes no"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw)
    tokenizer.add_special_tokens({"eos_token": "<eos>", "pad_token": "<eos>"})
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config), tokenizer
