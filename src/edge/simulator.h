#pragma once
// Edges and a server in virtual time: the real session state machines and the real decision when a
// step begins, over made-up costs, acceptance, delays and faults. Deterministic; thousands of edges
// in seconds. For questions that no two-core machine can answer by running. Ref: research notes,
// specedge §3.1, §3.2 (tier T0).
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/draft_batching.h"

namespace hob::edge {

enum class SimSystem : uint8_t {
  kPlain,       // the server decodes, a token per step
  kServerOnly,  // the server drafts, then verifies; all together
  kEdge,        // edges draft, the server verifies
};

struct SimOptions {
  SimSystem system = SimSystem::kEdge;
  DraftBatching batching = DraftBatching::kCoalesce;
  int n_users = 1;
  int n_tok = 200;      // of each answer
  int n_draft = 4;      // tokens of a draft: a chain
  double accept = 0.7;  // that a drafted token comes true, its parents having
  double hit_rate = 0;  // that a guess of the round's end is right; 0 = none is sent
  double step_fixed_s = 0.045, step_row_s = 0;  // of the server's step
  double server_draft_s = 0.06;                 // a draft, on the server, for all users together
  double edge_draft_s = 0.06;                   // a draft, on the edge
  double one_way_s = 0.007, jitter_s = 0;
  double mean_gap_s = 0;  // between arrivals of users (Poisson); 0 = all at the start
  // Faults. In an outage frames vanish without a word; at a restart the server forgets everything.
  std::vector<std::pair<double, double>> outages = {};
  std::vector<double> restarts = {};
  uint64_t seed = 1;
};

struct SimResult {
  uint64_t n_tok = 0;
  double seconds = 0;  // until the last answer was complete at its edge
  double tok_s = 0;
  double gap_p95_s = 0;  // between tokens of a user: a round's time over its tokens
  double tok_per_round = 0;
  double busy = 0;  // share of the time in which the server computed
  uint64_t n_rounds = 0, n_hits = 0, n_guessed = 0, n_resumes = 0;
  uint64_t n_wrong = 0;   // tokens that are not what the target says: never any
  uint64_t n_failed = 0;  // answers that ended early
};

SimResult simulate(const SimOptions& options);

}  // namespace hob::edge
