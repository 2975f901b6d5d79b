#include "engine/request_scheduler.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "base/error.h"
#include "kv/kv_store.h"

namespace hob {
namespace {

class Scheduling {
 public:
  explicit Scheduling(const ScheduleInput& input)
      : in_(input),
        rows_left_(input.limits.max_rows),
        logit_rows_left_(input.limits.max_logit_rows),
        blocks_left_(input.n_free_blocks),
        state_(input.requests.size()),
        tenants_(input.tenants.begin(), input.tenants.end()) {
    for (size_t i = 0; i < in_.requests.size(); i++)
      if (in_.requests[i].running) running_.push_back(static_cast<int>(i));
    std::sort(running_.begin(), running_.end(), [&](int a, int b) { return better(a, b); });
  }

  ScheduleResult run() {
    run_decodes();
    run_drafts();
    if (!prefill_held()) {
      if (!in_.stream.streaming && n_decoding_ > 0)
        prefill_rows_left_ = std::min(rows_left_, kMixedPrefillRows);
      else
        prefill_rows_left_ = rows_left_;
      for (int i : running_)
        if (!at(i).decodes() && !at(i).held) prefill_rows_left_ -= grant(i, prefill_rows_left_);
      if (!short_of_blocks_) admit();
    }
    ScheduleResult out;
    for (int i : running_)
      if (state(i).n_rows) out.rows.push_back({i, state(i).n_rows});
    for (int i : admitted_) out.rows.push_back({i, state(i).n_rows});
    out.admitted = std::move(admitted_);
    out.preempted = std::move(preempted_);
    return out;
  }

 private:
  struct State {
    int n_rows = 0;
    bool preempted = false;
  };

  const RequestView& at(int i) const { return in_.requests[static_cast<size_t>(i)]; }
  State& state(int i) { return state_[static_cast<size_t>(i)]; }

  bool better(int a, int b) const {
    return std::tuple(at(a).priority, at(a).arrival) < std::tuple(at(b).priority, at(b).arrival);
  }

  double due_s(int i) const { return at(i).deadline_s > 0 ? at(i).deadline_s : INFINITY; }

  static int blocks_for(const RequestView& r, int n_tok) {
    if (n_tok <= 0) return 0;
    if (r.n_reserve_blocks >= 0) return r.n_reserve_blocks;
    return (r.copies_block ? 1 : 0) + (std::max(0, n_tok - r.n_room_tok) + kKvBlock - 1) / kKvBlock;
  }

  static int tokens_in(const RequestView& r, int n_blocks) {
    if (r.n_reserve_blocks >= 0) return n_blocks < r.n_reserve_blocks ? 0 : r.n_pending_tok;
    const int n = n_blocks - (r.copies_block ? 1 : 0);
    return n < 0 ? 0 : r.n_room_tok + n * kKvBlock;
  }

  // Of the answers that it runs, as far as they may grow.
  static int headroom(const RequestView& r) {
    if (r.n_reserve_blocks >= 0) return 0;
    return r.n_seqs * std::min(kHeadroomBlocks, (r.n_more_tok + kKvBlock - 1) / kKvBlock);
  }

  static int logit_rows(const RequestView& r, int n_tok) {
    return std::max(0, n_tok - r.n_logits_from);
  }

  // How many of its first pending tokens fit into the rows that are left.
  int fitting(const RequestView& r, int max_rows) const {
    const int n = std::min({r.n_pending_tok, rows_left_, max_rows});
    return n - std::max(0, logit_rows(r, n) - logit_rows_left_);
  }

  // Positive: takes that from what is left. Negative: gives it back.
  void take(const RequestView& r, int n_rows, int sign) {
    rows_left_ -= sign * n_rows;
    logit_rows_left_ -= sign * logit_rows(r, n_rows);
    blocks_left_ -= sign * blocks_for(r, n_rows);
  }

  std::optional<int> worst_running() {
    for (size_t i = running_.size(); i-- > 0;)
      if (!state(running_[i]).preempted) return running_[i];
    return std::nullopt;
  }

  void preempt(int i) {
    take(at(i), state(i).n_rows, -1);
    if (at(i).decodes() && state(i).n_rows) n_decoding_--;
    blocks_left_ += at(i).n_own_blocks;
    state(i) = {.n_rows = 0, .preempted = true};
    preempted_.push_back(i);
    short_of_blocks_ = true;
  }

  // Rows for a running request; preempts worse ones for its blocks. Returns how many.
  int grant(int i, int max_rows) {
    if (state(i).preempted) return 0;
    const RequestView& r = at(i);
    int n = fitting(r, max_rows);
    while (n > 0 && blocks_for(r, n) > blocks_left_) {
      const int worst = *worst_running();
      short_of_blocks_ = true;
      if (worst == i) {
        n = std::min(n, tokens_in(r, blocks_left_));
        break;
      }
      preempt(worst);
    }
    if (n <= 0) return 0;
    state(i).n_rows = n;
    take(r, n, 1);
    return n;
  }

  void run_decodes() {
    std::vector<int> decodes;
    bool prefills = false;  // beside them; one row of it at least, however many they are
    for (int i : running_) {
      if (at(i).held) continue;
      if (at(i).decodes())
        decodes.push_back(i);
      else
        prefills = true;
    }
    int n_max =
        std::min(in_.limits.max_rows - (prefills && in_.limits.max_rows > 1 ? 1 : 0),
                 in_.limits.max_logit_rows - (prefills && in_.limits.max_logit_rows > 1 ? 1 : 0));
    if (in_.stream.max_decodes > 0) n_max = std::min(n_max, in_.stream.max_decodes);
    // Best first, so that the blocks that are left go to them; in turns when there are not rows
    // enough for all, and who is due first begins each; who is in his turn keeps it.
    if (decodes.size() > static_cast<size_t>(std::max(n_max, 0)))
      std::sort(decodes.begin(), decodes.end(), [&](int a, int b) {
        if (at(a).in_turn != at(b).in_turn) return at(a).in_turn;
        if (at(a).last_step != at(b).last_step) return at(a).last_step < at(b).last_step;
        const double due_a = due_s(a), due_b = due_s(b);
        return due_a != due_b ? due_a < due_b : better(a, b);
      });
    for (int i : decodes)
      if (n_decoding_ < n_max) n_decoding_ += grant(i, 1);
  }

  void run_drafts() {
    const auto wants_rows = [](const RequestView& r) {
      return !r.held && (!r.running || !r.decodes());
    };
    const bool prompts = std::any_of(in_.requests.begin(), in_.requests.end(), wants_rows);
    int rows = prompts ? rows_left_ / 2 : rows_left_;
    int logit_rows = prompts ? logit_rows_left_ / 2 : logit_rows_left_;
    std::vector<int> drafts;
    for (const int i : running_)
      if (state(i).n_rows == 1 && at(i).decodes() && at(i).n_draft_tok > 0) drafts.push_back(i);
    // Short of rows, all trees shrink alike; what a small one leaves goes to the larger ones.
    std::sort(drafts.begin(), drafts.end(), [&](int a, int b) {
      return at(a).n_draft_tok != at(b).n_draft_tok ? at(a).n_draft_tok < at(b).n_draft_tok
                                                    : better(a, b);
    });
    for (size_t k = 0; k < drafts.size(); k++) {
      const int i = drafts[k];
      const RequestView& r = at(i);
      const auto n_left = static_cast<int>(drafts.size() - k);
      int n = std::min({r.n_draft_tok, rows / n_left, logit_rows / n_left});
      while (n > 0 && blocks_for(r, 1 + n) - blocks_for(r, 1) > blocks_left_) n--;
      if (n <= 0) continue;
      blocks_left_ -= blocks_for(r, 1 + n) - blocks_for(r, 1);
      state(i).n_rows += n;
      rows -= n;
      logit_rows -= n;
      rows_left_ -= n;
      logit_rows_left_ -= n;
    }
  }

  // Rule 5, streamed models.
  bool prefill_held() const {
    const StreamView& s = in_.stream;
    if (!s.streaming || n_decoding_ == 0) return false;
    if (s.n_steps_since_prefill >= kMaxHeldSteps || s.decode_bytes_since_prefill >= s.prefill_bytes)
      return false;
    int64_t n_pending = 0;
    for (const RequestView& r : in_.requests)
      if (!r.held && (!r.running || !r.decodes())) n_pending += r.n_pending_tok;
    return n_pending < rows_left_;
  }

  // The tenant's best waiting request; -1 = none.
  int candidate(int tenant) {
    int best = -1;
    const auto key = [&](int i) {
      const RequestView& r = at(i);
      return std::tuple(level(r.priority, r.waiting_since_s), !r.preempted,
                        due_s(i), r.arrival);
    };
    for (int i = 0; i < static_cast<int>(in_.requests.size()); i++)
      if (!at(i).running && !at(i).held && at(i).tenant == tenant && !state(i).n_rows &&
          (best < 0 || key(i) < key(best)))
        best = i;
    return best;
  }

  double level(int priority, double since_s) const {
    return priority - std::floor(std::max(0.0, in_.now_s - since_s) / kAging);
  }

  // Since when the tenant waits without being served.
  double tenant_waits_since(int tenant) const {
    double since = in_.now_s;
    for (const RequestView& r : in_.requests)
      if (!r.running && !r.held && r.tenant == tenant) since = std::min(since, r.waiting_since_s);
    return std::max(since, tenants_[static_cast<size_t>(tenant)].last_admitted_s);
  }

  // Whose turn it is; -1 = nobody waits.
  int next_waiting() {
    int best = -1;
    std::tuple<double, bool, uint64_t, uint64_t> best_key;
    for (int t = 0; t < static_cast<int>(tenants_.size()); t++) {
      const int i = candidate(t);
      if (i < 0) continue;
      const std::tuple key(level(at(i).priority, tenant_waits_since(t)), !at(i).preempted,
                           tenants_[static_cast<size_t>(t)].n_served_rows, at(i).arrival);
      if (best < 0 || key < best_key) {
        best = i;
        best_key = key;
      }
    }
    return best;
  }

  void admit() {
    int n_seqs = 0, n_promised_blocks = 0;
    for (int i : running_) {
      const RequestView& r = at(i);
      if (!r.held) n_seqs += r.n_seqs;  // who waits for a draft wants no row
      n_promised_blocks += headroom(r);
      if (!r.decodes())
        n_promised_blocks += blocks_for(r, r.n_pending_tok) - blocks_for(r, state(i).n_rows);
    }
    while (prefill_rows_left_ > 0) {
      const int i = next_waiting();
      if (i < 0) return;
      const RequestView& r = at(i);
      int n = fitting(r, prefill_rows_left_);
      if (n_seqs + r.n_seqs > in_.limits.max_seqs || n <= 0) return;
      // Its first new token too, and a block per choice that will write one of its own.
      const int n_all =
          blocks_for(r, r.n_pending_tok + 1) + (r.n_reserve_blocks >= 0 ? 0 : r.n_seqs - 1);
      const bool alone = running_.empty() && admitted_.empty();
      if (!alone && n_all + n_promised_blocks > blocks_left_) return;
      if (alone) n = std::min(n, tokens_in(r, blocks_left_));
      if (n <= 0) return;
      state(i).n_rows = n;
      take(r, n, 1);
      prefill_rows_left_ -= n;
      n_seqs += r.n_seqs;
      n_promised_blocks += n_all - blocks_for(r, n) + headroom(r);
      admitted_.push_back(i);
      TenantView& tenant = tenants_[static_cast<size_t>(r.tenant)];
      tenant.n_served_rows += static_cast<uint64_t>(n);
      tenant.last_admitted_s = in_.now_s;
    }
  }

  const ScheduleInput& in_;
  int rows_left_, logit_rows_left_, blocks_left_;
  int prefill_rows_left_ = 0;
  int n_decoding_ = 0;
  bool short_of_blocks_ = false;
  std::vector<int> running_;  // best first
  std::vector<int> admitted_, preempted_;
  std::vector<State> state_;
  std::vector<TenantView> tenants_;
};

}  // namespace

ScheduleResult schedule_requests(const ScheduleInput& input) {
  HOB_CHECK(input.limits.max_rows >= 1 && input.limits.max_logit_rows >= 1);
  return Scheduling(input).run();
}

}  // namespace hob
