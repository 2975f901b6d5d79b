#pragma once
// What EdgeLoop keeps of requests and links. For its own files only.
#include "edge/edge_loop.h"
#include "edge/provisional.h"
#include "engine/choice_output.h"

namespace hob::edge {

// What links have brought, until the loop takes it.
struct EdgeLoop::Inbox {
  struct Event {
    uint64_t link = 0;
    std::optional<pb::ServerFrame> frame;  // none: the link has closed
  };
  std::mutex mutex;
  std::vector<Event> events;
  std::function<void()> wake;
};

// A request: its choices are generations of their own.
struct EdgeLoop::Group {
  CompletionRequest in;
  std::shared_ptr<CompletionSink> sink;
  int n_running = 0;
  CompletionUsage usage;
  std::exception_ptr error;
  int64_t start_us = 0, answer_us = 0;
};

struct EdgeLoop::Generation {
  Generation(std::shared_ptr<Group> g, int c, const Tokenizer& tokenizer, int max_tok,
             ClientSession s)
      : group(std::move(g)),
        choice(c),
        output(group->in, tokenizer, c, max_tok),
        session(std::move(s)),
        provisional(group->in.wants_provisional) {}

  void assemble_text() {
    const std::span<const int32_t> ids = session.log().ids(), said = provisional.tokens();
    text.assign(ids.begin(), ids.end());
    text.insert(text.end(), said.begin(), said.end());
  }

  const std::shared_ptr<Group> group;
  const int choice;
  ChoiceOutput output;
  ClientSession session;
  std::unique_ptr<DraftState> draft_state;
  std::unique_ptr<Link> link;
  uint64_t link_number = 0;  // events of earlier links are nothing any more
  int64_t draft_us = 0;
  int guessed_for = -1;    // length of the log
  int64_t decided_us = 0;  // when tokens were last committed
  bool by_stream = false;  // and how
  // While the server is away: what the draft model says, and the whole text with it.
  Provisional provisional;
  std::vector<int32_t> text;
  bool is_mute = false;  // ... nothing: its context is full, or it is no model that could
  bool kept = false;     // the server did not come back; what is provisional is the answer
  int n_unverified = 0;  // tokens of it
  bool over = false;
};

}  // namespace hob::edge
