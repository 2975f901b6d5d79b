#!/usr/bin/env python3
"""Public client packages, unchanged, against a running `hob serve` of a chat model.

  python3 -m venv clients && clients/bin/pip install openai langchain-openai ollama
  clients/bin/python tests/clients/real_clients.py http://127.0.0.1:8080 [API-KEY]

Not part of the test suite: it needs packages from PyPI. Ends with the number of checks that passed.
"""
import sys

import ollama
import openai
from langchain_openai import ChatOpenAI

URL = sys.argv[1]
KEY = sys.argv[2] if len(sys.argv) > 2 else "none"
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


client = openai.OpenAI(base_url=URL + "/v1", api_key=KEY)
MODEL = client.models.list().data[0].id


@check
def openai_chat():
    r = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=16, temperature=0)
    assert "Paris" in r.choices[0].message.content, r
    assert r.usage.total_tokens == r.usage.prompt_tokens + r.usage.completion_tokens


@check
def openai_stream_equals_whole():
    args = dict(model=MODEL, messages=QUESTION, max_tokens=24, seed=5)
    whole = client.chat.completions.create(**args).choices[0].message.content
    pieces, usage = [], None
    for chunk in client.chat.completions.create(**args, stream=True, stream_options={"include_usage": True}):
        if chunk.choices:
            pieces.append(chunk.choices[0].delta.content or "")
        usage = chunk.usage or usage
    assert "".join(pieces) == whole
    assert usage.completion_tokens > 0


@check
def openai_chat_logprobs():
    r = client.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=4, temperature=0, logprobs=True,
                                       top_logprobs=3)
    for entry in r.choices[0].logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert abs(entry.top_logprobs[0].logprob - entry.logprob) < 1e-6  # greedy takes the best


@check
def openai_n_choices_and_stop():
    r = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Count to ten."}], n=3,
                                       max_tokens=20, seed=3, temperature=1.2, stop=["5"])
    assert sorted(c.index for c in r.choices) == [0, 1, 2]
    assert all("5" not in c.message.content for c in r.choices)


@check
def openai_completions_echo_as_lm_eval_asks():
    r = client.completions.create(model=MODEL, prompt=[[504, 2012, 282, 4649], [504, 282]], max_tokens=1, echo=True, logprobs=1)
    for choice, n in zip(r.choices, [4, 2]):
        assert len(choice.logprobs.token_logprobs) == n + 1
        assert choice.logprobs.token_logprobs[0] is None
        assert all(x <= 0 for x in choice.logprobs.token_logprobs[1:])


@check
def openai_errors():
    for bad, kind in [(dict(temperature=-1), openai.BadRequestError), (dict(max_tokens=10**6), openai.BadRequestError),
                      (dict(model="no-such"), openai.NotFoundError)]:
        try:
            client.chat.completions.create(**{**dict(model=MODEL, messages=QUESTION), **bad})
        except kind as e:
            assert e.body["message"], e
        else:
            raise AssertionError(f"{bad} was accepted")


@check
def langchain():
    chat = ChatOpenAI(base_url=URL + "/v1", api_key=KEY, model=MODEL, temperature=0, max_tokens=16)
    assert "Paris" in chat.invoke(QUESTION[0]["content"]).content
    assert "Paris" in "".join(c.content for c in chat.stream(QUESTION[0]["content"]))


@check
def ollama_client():
    c = ollama.Client(host=URL, headers={"Authorization": f"Bearer {KEY}"})
    name = c.list().models[0].model
    assert "Paris" in c.chat(model=name, messages=QUESTION, options={"temperature": 0, "num_predict": 16, "repeat_penalty": 1.0}).message.content
    streamed = c.chat(model=name, messages=QUESTION, stream=True, options={"temperature": 0, "num_predict": 16, "repeat_penalty": 1.0})
    assert "Paris" in "".join(part.message.content for part in streamed)
    assert c.generate(model=name, prompt="The sky is", options={"num_predict": 8}).response
    assert c.show(name).modelinfo
    assert c.ps().models[0].model == name


for function in CHECKS:
    function()
    print("ok", function.__name__, flush=True)
print(f"{len(CHECKS)} of {len(CHECKS)} checks passed")
