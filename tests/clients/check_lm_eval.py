#!/usr/bin/env python3
"""lm-eval's local-completions, unchanged, against a running `hob serve`: its loglikelihoods must be those of `hob logits`.

  python3 -m venv clients && clients/bin/pip install 'lm-eval[api]'
  hob serve MODEL.gguf --ctx 2048 &
  clients/bin/python tests/clients/check_lm_eval.py HOB MODEL.gguf http://127.0.0.1:8080

Two tasks of its own, so that nothing is downloaded: multiple choice (loglikelihood) and the perplexity of a text
(loglikelihood_rolling), with requests as tokens and as text, one at a time and several at once. The tokenizer is the server's
(/tokenizer_info). Not part of the test suite: it needs packages from PyPI.
Last run with lm_eval 0.4.13.
"""
import array
import json
import logging
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import urllib.request

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import lm_eval
from lm_eval.tasks import TaskManager

HOB, MODEL, URL = sys.argv[1:4]
LIMIT = 1e-3
QUESTIONS = [("The capital of France is", [" Paris", " a small village in Peru", " London"], 0),
             ("Water freezes at a temperature of", [" zero degrees Celsius", " ninety degrees", " the river"], 0),
             ("Two plus two equals", [" seven hundred", " four", " \u00e9t\u00e9"], 1),
             ("She opened the umbrella because it was", [" raining", " Tuesday in Berlin", " green"], 0)]
TEXTS = ["The lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote one line about the weather. "
         "In forty years he missed a single night, and that night a ship came in all the same. ",
         "Bread needs flour, water, salt and time. Of these, time is the one that people try to leave out. "]
YAML = """task: {task}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {output}
{rest}
"""


def ask(path, body):
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def tokens_of(text):
    return ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def hob_logprobs(tokens, folder):
    """log p(token i | tokens before it) for i >= 1, from `hob logits`."""
    out = folder / "logits.f32"
    subprocess.run([HOB, "logits", MODEL, "--tokens", ",".join(map(str, tokens)), "--out", str(out), "--quiet"], check=True)
    logits = array.array("f", out.read_bytes())
    n_vocab = len(logits) // len(tokens)
    result = []
    for i, token in enumerate(tokens[1:]):
        row = logits[i * n_vocab:(i + 1) * n_vocab]
        most = max(row)
        result.append(row[token] - most - math.log(sum(math.exp(x - most) for x in row)))
    return result


def write_tasks(folder):
    choice, text = folder / "choice.jsonl", folder / "text.jsonl"
    choice.write_text("".join(json.dumps({"q": q, "choices": c, "gold": g}) + "\n" for q, c, g in QUESTIONS))
    text.write_text("".join(json.dumps({"text": t * 6}) + "\n" for t in TEXTS))
    (folder / "hob_choice.yaml").write_text(YAML.format(
        task="hob_choice", data=choice, output="multiple_choice",
        rest='doc_to_text: "{{q}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: gold\ntarget_delimiter: ""\n'
             "metric_list: [{metric: acc}]"))
    (folder / "hob_text.yaml").write_text(YAML.format(
        task="hob_text", data=text, output="loglikelihood_rolling",
        rest='doc_to_text: ""\ndoc_to_target: "{{text}}"\nmetric_list: [{metric: word_perplexity}]'))


def first(value):
    while isinstance(value, (list, tuple)):
        value = value[0]
    return float(value)


def check(results, bos, folder, known):
    worst = 0
    for sample in results["samples"]["hob_choice"]:
        for (context, continuation), response in zip(sample["arguments"], sample["resps"]):
            whole, n_context = tokens_of(context + continuation), len(tokens_of(context))
            if tuple(whole) not in known:
                known[tuple(whole)] = hob_logprobs(whole, folder)
            worst = max(worst, abs(sum(known[tuple(whole)][n_context - 1:]) - first(response)))
    for sample in results["samples"]["hob_text"]:
        whole = [bos, *tokens_of(sample["arguments"][0][0])]
        if tuple(whole) not in known:
            known[tuple(whole)] = hob_logprobs(whole, folder)
        worst = max(worst, abs(sum(known[tuple(whole)]) - first(sample["resps"])))
    return worst


def check_perplexity(folder):
    """The same text through `hob perplexity` and through echo with logprobs."""
    text = TEXTS[0] * 6
    (folder / "text.txt").write_text(text)
    done = subprocess.run([HOB, "perplexity", MODEL, "-f", str(folder / "text.txt"), "--ctx", "2048", "--json", "--quiet"], check=True,
                          capture_output=True)
    report = json.loads(done.stdout.splitlines()[-1])
    reply = ask("/v1/completions", {"prompt": text, "max_tokens": 0, "echo": True, "logprobs": 0})
    logprobs = reply["choices"][0]["logprobs"]["token_logprobs"][-report["n_tok"]:]  # it scores the second half
    served = math.exp(-sum(logprobs) / len(logprobs))
    print(f"perplexity: hob perplexity {report['ppl']:.6f}, served {served:.6f}")
    return abs(math.log(served / report["ppl"]))


def main():
    logging.disable(logging.WARNING)
    worst, known = 0, {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_tasks(folder)
        info = json.load(urllib.request.urlopen(URL + "/tokenizer_info"))
        model = json.load(urllib.request.urlopen(URL + "/v1/models"))["data"][0]["id"]
        bos = tokens_of(info["bos_token"] or info["eos_token"])[0]
        for more in ["tokenized_requests=True", "tokenized_requests=False", "num_concurrent=4", "num_concurrent=2,batch_size=3"]:
            start = time.monotonic()
            results = lm_eval.simple_evaluate(
                model="local-completions", tasks=["hob_choice", "hob_text"], log_samples=True, bootstrap_iters=0,
                model_args=f"model={model},base_url={URL}/v1/completions,tokenizer_backend=remote,{more}",
                task_manager=TaskManager(include_path=str(folder), include_defaults=False))
            took = time.monotonic() - start
            off = check(results, bos, folder, known)
            worst = max(worst, off)
            print(f"{more}: largest difference of a loglikelihood {off:.2g}, {took:.1f} s, "
                  f"acc {results['results']['hob_choice']['acc,none']}")
        worst = max(worst, check_perplexity(folder))
    print(f"largest difference {worst:.2g}: {'ok' if worst < LIMIT else 'TOO MUCH'}")
    sys.exit(worst >= LIMIT)


main()
