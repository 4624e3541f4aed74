"""One public file is one post-training method; files with a leading underscore hold what all share."""
