"""The module over what the real program wrote. `HOST_PROGRAM` names the program where the module is not installed with it."""

import json
import math
import subprocess
import tempfile
import unittest
from pathlib import Path

import host_eval
from host_eval.json_hash import hash_json, loads


def host(*words):
    done = subprocess.run([str(host_eval.program()), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def setUpModule():
    global FOLDER, OUT
    FOLDER = tempfile.TemporaryDirectory()
    OUT = Path(FOLDER.name) / "runs"
    common = ["run", "--demo", "--offline", "--quiet", "--task", "arc", "--limit", "6", "--out", str(OUT), "--model"]
    host(*common, "qwen3")
    host(*common, "gemma", "--predict-only")
    [predicted] = OUT.glob("gemma-*")
    host("score", str(predicted), "--quiet")
    host("score", str(predicted), "--quiet", "--judge", "rules")


def tearDownModule():
    FOLDER.cleanup()


class Hashes(unittest.TestCase):
    def test_texts_numbers_and_order(self):
        value = loads('{"b": [1, 2.50, true, null], "a": "ä\\u0001\\"/"}')
        self.assertEqual(hash_json(value), hash_json(loads('{"a": "\\u00e4\\u0001\\"/", "b": [1, 2.50, true, null]}')))
        self.assertNotEqual(hash_json(loads("2.5")), hash_json(loads("2.50")))

    def test_equal_those_of_the_program(self):
        for run in host_eval.runs(OUT):
            found = run.results["host"]
            self.assertEqual(hash_json(found["identity"]["task"]), found["scorers"][run.task]["identity"])
        for record in host_eval.Run(next(OUT.glob("qwen3-*"))).records():
            self.assertEqual(hash_json(record["doc"]), record["doc_hash"])


class Runs(unittest.TestCase):
    def test_means_of_records_are_the_results(self):
        for run in host_eval.runs(OUT):
            values = [host_eval.value(record, "acc") for record in run.records()]
            metric = run.metrics()[0]
            self.assertEqual((metric["metric"], metric["n"], metric["group"]), ("acc", 6, None))
            self.assertAlmostEqual(sum(values) / len(values), metric["value"])
            self.assertTrue(metric["low"] <= metric["value"] <= metric["high"])
            self.assertEqual(run.settings["task"], "arc")

    def test_scores_that_came_later_are_laid_over(self):
        [run] = [run for run in host_eval.runs(OUT) if run.model == "gemma"]
        plain = [json.loads(line) for line in (run.path / "samples.jsonl").read_text().splitlines()]
        self.assertTrue(all(not record["scores"] for record in plain))
        judged = [host_eval.value(record, "value", scorer="rules") for record in run.records()]
        self.assertEqual(len(judged), 6)
        [metric] = [metric for metric in run.metrics() if metric["filter"] == "judge"]
        self.assertAlmostEqual(sum(judged) / len(judged), metric["value"])

    def test_a_judge_that_was_shown_another_score_no_longer_counts(self):
        [run] = [run for run in host_eval.runs(OUT) if run.model == "gemma"]
        lines = (run.path / "scores.jsonl").read_text().splitlines()
        self.assertTrue(any(json.loads(line)["score"].get("shown") for line in lines))
        with tempfile.TemporaryDirectory() as folder:
            for name in ["samples.jsonl", "results.json"]:
                (Path(folder) / name).write_text((run.path / name).read_text())
            changed = [line.replace('"answer":"', '"answer":"other ') for line in lines]
            (Path(folder) / "scores.jsonl").write_text("\n".join(changed) + "\n")
            for record in host_eval.Run(folder).records():
                self.assertEqual(list(record["scores"]), [record["task"]])

    def test_the_last_of_several_lines_counts_and_a_torn_one_does_not(self):
        with tempfile.TemporaryDirectory() as folder:
            lines = [
                {"key": "a", "doc_id": 1, "task": "t", "scores": {"t": {"values": {"acc": 0.0}}}},
                {"key": "b", "doc_id": 0, "task": "t", "scores": {}},
                {"key": "a", "doc_id": 1, "task": "t", "scores": {"t": {"values": {"acc": 1.0}}}},
            ]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (Path(folder) / "samples.jsonl").write_text(text + '{"key": "c", "doc_id": 2')
            run = host_eval.Run(folder)
            self.assertEqual([host_eval.value(record, "acc") for record in run.records()], [None, 1.0])
            self.assertEqual((run.results, run.metrics(), run.model), ({}, [], ""))

    def test_a_folder_that_is_no_run_is_named(self):
        with self.assertRaisesRegex(FileNotFoundError, "no samples.jsonl"):
            host_eval.Run(OUT)
        self.assertEqual(host_eval.runs(OUT / "nothing"), [])

    def test_rows_are_flat_and_a_frame_has_them(self):
        run = host_eval.Run(next(OUT.glob("gemma-*")))
        rows = list(run.rows())
        self.assertEqual({row["status"] for row in rows} - {"scored", "no_answer"}, set())
        self.assertIn("rules:value", rows[0])
        self.assertTrue(all(not isinstance(cell, (dict, list)) for row in rows for cell in row.values()))
        try:
            import pandas  # noqa: F401
        except ModuleNotFoundError:
            self.skipTest("there is no pandas")
        self.assertTrue(math.isclose(run.frame()["acc"].mean(), run.metrics()[0]["value"]))


class Comparisons(unittest.TestCase):
    def test_two_runs(self):
        first, second = host_eval.runs(OUT)
        found = host_eval.compare(first, second.path)
        self.assertEqual(found, json.loads(host("compare", "--json", str(first.path), str(second.path))))

    def test_a_refusal_is_the_programs_own_words(self):
        with self.assertRaisesRegex(ValueError, "not a run directory"):
            host_eval.compare(OUT, OUT)


if __name__ == "__main__":
    unittest.main()
