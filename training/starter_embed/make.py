"""Make `starter-embed.safetensors`: write texts, have the teacher look at them, teach the student."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import artefact
import torch
from corpus import Corpus, known_words
from lesson import Lesson, teach
from student import Plan, Student, begin
from teacher import Teacher, directory

GROUPS = 60_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for the model and what it is made from"
    )
    parser.add_argument("--groups", type=int, default=GROUPS, help="groups of four texts in the corpus")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--lesson", type=Path, help="what the teacher said in an earlier run, to learn from again"
    )
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(asked.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    master = Teacher(directory(), fast=True)
    known, single = known_words(master)
    if asked.lesson:
        lesson = Lesson.load(asked.lesson)
    else:
        lesson = teach(master, Corpus(known, asked.seed), asked.groups)
        lesson.save(asked.out / "lesson.npz")
    taught = time.monotonic()
    plan = Plan(seed=asked.seed)
    table = Student(lesson, begin(lesson, single, plan), plan).learn()
    artefact.write(asked.out / "starter-embed.safetensors", master.vocabulary, table.numpy())
    made = {
        "texts": len(lesson.vectors),
        "tokens": len(lesson.ids),
        "teacher_minutes": round((taught - began) / 60, 1),
        "student_minutes": round((time.monotonic() - taught) / 60, 1),
        "threads": asked.threads,
        "plan": asdict(plan),
    }
    (asked.out / "made.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
