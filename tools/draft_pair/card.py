"""pair.md: what the files are made of, with the figures of the run that made them."""
from .texts import SOURCES
from .training import BATCH_TOK, LONG_WINDOW

_HEAD = """# The draft pair

A target model and a draft of it, to measure speculative decoding with: real weights, real disagreement. Made by
`tools/make_draft_pair.py`. Both are llamas with one byte-level BPE vocabulary, trained in F32 on a CPU; the target on text, the draft
on the target's probabilities for that text ([DISTILL]). They write in the manner of their two sources and know nothing.

"""


def _shape_row(role, trainer):
    s, state = trainer.model.shape, trainer.state
    return (f"| {role} | {trainer.model.n_params() / 1e6:.2f} M | {s.n_layers} | {s.d_model} | {s.d_ff} | {s.n_heads} x {s.d_head} "
            f"| {state.step} | {state.step * BATCH_TOK / 1e6:.2f} M | {state.seconds / 60:.1f} |\n")


def _measure_row(target, draft, source, a):
    runs = " / ".join(f"{100 * share:.0f} %" for share in a.run_lengths)
    return (f"| {target} + {draft} | {source} | {a.n_tok} | {a.target_loss:.3f} | {a.draft_loss:.3f} "
            f"| {100 * a.same_argmax:.1f} % | {100 * a.overlap:.1f} % | {runs} |\n")


def card(trainers, train, measured):
    vocab = next(iter(trainers.values())).model.shape.n_vocab
    text = _HEAD + f"Vocabulary: {vocab} tokens. Context: {LONG_WINDOW} tokens.\n\n"
    text += ("| | parameters | layers | d_model | d_ff | heads | steps | tokens seen | minutes |\n"
             "|---|---|---|---|---|---|---|---|---|\n")
    text += "".join(_shape_row(role, trainer) for role, trainer in trainers.items())
    text += "\n## Texts\n\n| | what | from | licence | tokens |\n|---|---|---|---|---|\n"
    text += "".join(f"| {s.name} | {s.what} | `{s.package}` | {s.licence} | {len(ids)} |\n" for s, ids in zip(SOURCES, train))
    text += ("\nOne document (chapter, file) in 16 is held out, chosen by the checksum of its name.\n"
             "\n## Agreement on held-out text\n\nMeasured in PyTorch from the files as they are. Losses in nats per token. "
             "Same choice: positions where\nthe draft's most likely token is the target's. Overlap: the sum of "
             "min(p, q), which is what sampling can accept. Runs: positions from\nwhich the draft's choices are the target's for "
             "1 / 2 / 4 / 8 tokens, the text given.\n\n"
             "| files | text | tokens | target's loss | draft's loss | same choice | overlap | runs |\n|---|---|---|---|---|---|---|---|\n")
    return text + "".join(_measure_row(*row) for row in measured)
