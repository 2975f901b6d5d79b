"""What docs/openapi.yaml cannot say because it depends on the running server, for Schemathesis (see schemathesis.sh)."""
import json
import os
import re
import urllib.request

import schemathesis

URL = os.environ["HOB_URL"]


def ask(path):
    return json.load(urllib.request.urlopen(URL + path))


MODEL = ask("/v1/models")["data"][0]["id"]
LAST_TOKEN = ask("/tokenizer_info")["vocab_size"] - 1

# A valid request may still not fit this server, or contradict itself in a way that JSON Schema cannot express.
REASONS = re.compile(r"context holds|context of this server holds|--max-seqs|min_tokens: expected at most max_tokens"
                     r"|best_of|logit_bias: expected token ids|prompt: expected at (most|least)|choices together")


@schemathesis.hook
def before_load_schema(context, raw):
    schemas = raw["components"]["schemas"]
    # Almost all names are unknown: the interesting part comes behind that check.
    schemas["OllamaCommon"]["properties"]["model"] = {"enum": [MODEL]}
    schemas["OllamaName"]["properties"]["model"] = {"enum": [MODEL, "", None]}
    schemas["Sampling"]["properties"]["model"] = {"enum": [MODEL, "", None]}
    ids = schemas["Tokens"]["items"], schemas["Sampling"]["properties"]["stop_token_ids"]["oneOf"][1]["items"]
    prompts = schemas["TextRequest"]["allOf"][-1]["properties"]["prompt"]["oneOf"]
    for items in [*ids, prompts[2]["items"], prompts[3]["items"]["items"]]:
        items["maximum"] = LAST_TOKEN


@schemathesis.check
def valid_requests_are_accepted(ctx, response, case):
    """positive_data_acceptance, with the reasons above for a refusal."""
    if case.meta is None or not case.meta.generation.mode.is_positive or response.status_code != 400:
        return None
    error = response.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    if not REASONS.search(message):
        raise AssertionError(f"valid data refused: {message}")
