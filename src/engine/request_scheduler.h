#pragma once
// Which requests get rows in the next step of a server. Pure: plain views in, decisions out; the
// serving loop applies them, tests and simulators ask for them directly. Ref: DESIGN decisions 5, 8
// and 9; research notes, serving §1.2 (the rules of vLLM V1).
//
// 1. Running decodes, one row each; then running prefills share what is left of the row budget;
//    then waiting requests are admitted, unless blocks were short in this step.
//    Drafts (draft_tree.h) of those that decode get rows after all decodes, and no more than half
//    of what is left while a prompt waits for rows. They never take a block from anybody.
// 2. Blocks short: the worst running request by (priority, arrival) is preempted (recompute) for a
//    better one, never the other way round. The worst itself keeps its blocks and stands still:
//    what is better than it runs on, ends, and gives blocks back. So the best request always moves.
// 3. Waiting: each tenant sends its best request (priority less one level per kAging of waiting;
//    preempted before new; earlier deadline; earlier arrival). Among tenants the best level wins,
//    then the tenant that was served the fewest rows. A tenant's level rises with the time since it
//    was last admitted, not with its requests' ages: flooding the queue gains nothing. The chosen
//    request is admitted or nobody is: small ones do not overtake a large one for ever.
// 4. Admission wants blocks for all that is known of the request, beside what running prefills
//    still need and what each that runs will write in its next kHeadroomBlocks blocks: a request
//    that would soon be preempted, or push others out, is not started.
// 5. A prompt's chunk delays those who decode. Resident model: at most kMixedPrefillRows prompt
//    rows in a step that also decodes. Streamed model: a step with many rows reads nearly all
//    experts whatever their number, so chunks are as large as the budget, and while others decode
//    a prefill step comes only when it fills the budget, or the decode steps since the last one
//    have together read as much as it will read, or after kMaxHeldSteps: prompts that arrive close
//    together share one pass over the disk, and either side gets about half of the disk's time.
#include <cstdint>
#include <span>
#include <vector>

#include "engine/scheduler.h"

namespace hob {

struct RequestView {
  bool running = false;    // holds blocks
  bool preempted = false;  // waiting again
  bool held = false;       // wants no row now; running, it can be preempted
  int n_pending_tok = 0;   // known, not in the KV cache; waiting: without what the prefix cache has
  int n_logits_from = 0;   // of the pending tokens, those from this index on want a row of logits
  int n_draft_tok = 0;     // nodes of a draft behind the one pending token; any first n will do
  int n_room_tok = 0;      // that its last block still takes
  bool copies_block = false;  // that block is shared: writing to it takes a free one
  int n_own_blocks = 0;       // given back when it is preempted
  // >= 0: KV memory is reserved (kv_reservation.h): it takes so many blocks when it gets its first
  // row, and none as it grows.
  int n_reserve_blocks = -1;
  int n_more_tok = 0;     // of the answer, at most
  int n_seqs = 1;         // sequences that it is or will become (n choices)
  int priority = 0;       // lower first
  uint64_t arrival = 0;   // distinct
  double deadline_s = 0;  // same clock as now_s; 0 = none
  double waiting_since_s = 0;
  int tenant = 0;         // index into the tenants
  int64_t last_step = 0;  // in which it got rows
  bool in_turn = false;   // belongs to the group that decodes now (StreamView::max_decodes)

  bool decodes() const { return n_pending_tok == 1; }
};

struct TenantView {
  uint64_t n_served_rows = 0;  // virtual time
  double last_admitted_s = 0;
};

// What a step costs when experts stream; zeros for a resident model.
struct StreamView {
  bool streaming = false;
  uint64_t prefill_bytes = 0;               // a prefill step will read about so much
  uint64_t decode_bytes_since_prefill = 0;  // read by steps that only decoded
  int n_steps_since_prefill = 0;
  int max_decodes = 0;  // of a step (decode_width.h); 0 = all
};

struct ServeLimits {
  int max_rows = 1, max_logit_rows = 1;
  int max_seqs = 1;
};

struct ScheduleInput {
  std::span<const RequestView> requests;
  std::span<const TenantView> tenants;
  int n_free_blocks = 0;
  ServeLimits limits;
  StreamView stream;
  double now_s = 0;
};

// Indices into the requests. A request is in at most one of admitted and preempted; a preempted one
// has no rows, an admitted one has.
struct ScheduleResult {
  std::vector<RowPlan> rows;  // RowPlan::seq is the index; tokens, then nodes of the draft
  std::vector<int> admitted;
  std::vector<int> preempted;
};

ScheduleResult schedule_requests(const ScheduleInput& input);

inline constexpr double kAging = 15;  // seconds that raise a priority by one
inline constexpr int kMixedPrefillRows = 128;
// Blocks per running request that an admission leaves free. With ShareGPT-like lengths in pools of
// 40 blocks, two of them halve the preemptions against none at the same throughput
// (docs/benchmarks.md); four save few more and leave a tenth of such a pool idle.
inline constexpr int kHeadroomBlocks = 2;
inline constexpr int kMaxHeldSteps = 16;  // decode steps that may delay a prefill

}  // namespace hob
