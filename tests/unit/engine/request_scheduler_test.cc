#include "engine/request_scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <random>

#include "kv/kv_store.h"

namespace hob {
namespace {

RequestView waiting(uint64_t arrival, int n_tok, int tenant = 0, int priority = 0) {
  RequestView r;
  r.n_pending_tok = n_tok;
  r.n_logits_from = n_tok - 1;
  r.arrival = arrival;
  r.tenant = tenant;
  r.priority = priority;
  return r;
}

// Has computed n_tok tokens; n_pending more wait.
RequestView running(uint64_t arrival, int n_tok, int n_pending = 1, int priority = 0) {
  RequestView r = waiting(arrival, n_pending, 0, priority);
  r.running = true;
  r.n_room_tok = (kKvBlock - n_tok % kKvBlock) % kKvBlock;
  r.n_own_blocks = (n_tok + kKvBlock - 1) / kKvBlock;
  return r;
}

struct Plan {
  std::map<int, int> rows;
  std::vector<int> admitted, preempted;
};

Plan plan_of(const std::vector<RequestView>& requests, ServeLimits limits, int n_free_blocks,
             const std::vector<TenantView>& tenants = {{}, {}, {}}, StreamView stream = {},
             double now_s = 0) {
  const ScheduleResult r = schedule_requests({.requests = requests,
                                              .tenants = tenants,
                                              .n_free_blocks = n_free_blocks,
                                              .limits = limits,
                                              .stream = stream,
                                              .now_s = now_s});
  Plan out{.rows = {}, .admitted = r.admitted, .preempted = r.preempted};
  for (const RowPlan& p : r.rows) out.rows[p.seq] = p.n_tok;
  return out;
}

using Rows = std::map<int, int>;
using Ids = std::vector<int>;
constexpr ServeLimits kLimits{.max_rows = 64, .max_logit_rows = 8, .max_seqs = 8};

TEST(RequestScheduler, DecodesThenRunningPrefillsThenWaiting) {
  const Plan p =
      plan_of({waiting(3, 20), running(1, 100, 40), running(0, 50), waiting(2, 30)}, kLimits, 100);
  EXPECT_EQ(p.rows,
            (Rows{{2, 1}, {1, 40}, {3, 23}}));  // 64 rows; the older waiting one gets the rest
  EXPECT_EQ(p.admitted, Ids{3});
}

TEST(RequestScheduler, BlocksShortPreemptsTheWorst) {
  // All three decodes stand at a block's end; one block is free.
  const Plan p =
      plan_of({running(0, 16, 1, 1), running(1, 32), running(2, 48), waiting(3, 5)}, kLimits, 1);
  EXPECT_EQ(p.preempted, Ids{0});  // priority 1 is worse than any arrival; it gives one block back
  EXPECT_EQ(p.rows, (Rows{{1, 1}, {2, 1}}));
  EXPECT_TRUE(p.admitted.empty());  // nobody comes in while blocks are short
}

RequestView drafted(RequestView r, int n) {
  r.n_draft_tok = n;
  return r;
}

TEST(RequestScheduler, DraftsComeAfterAllDecodes) {
  // 8 rows of logits: three decodes; the drafts share what is left.
  const Plan p = plan_of({drafted(running(1, 50), 10), drafted(running(0, 50), 3), running(2, 50)},
                         kLimits, 100);
  EXPECT_EQ(p.rows, (Rows{{0, 4}, {1, 3}, {2, 1}}));
  // What a small one leaves goes to the large ones.
  const Plan q = plan_of({drafted(running(1, 50), 10), drafted(running(0, 50), 1), running(2, 50)},
                         kLimits, 100);
  EXPECT_EQ(q.rows, (Rows{{0, 5}, {1, 2}, {2, 1}}));
}

TEST(RequestScheduler, DraftsLeaveHalfOfTheRowsToPrompts) {
  const Plan p = plan_of({drafted(running(0, 48), 60), running(1, 48, 100)},
                         {.max_rows = 64, .max_logit_rows = 64, .max_seqs = 8}, 100);
  EXPECT_EQ(p.rows, (Rows{{0, 32}, {1, 32}}));
}

TEST(RequestScheduler, DraftsTakeNoBlocksFromAnybody) {
  // Both stand at a block's end; three blocks are free.
  const Plan p = plan_of({drafted(running(0, 16), 40), drafted(running(1, 16), 40)},
                         {.max_rows = 64, .max_logit_rows = 64, .max_seqs = 8}, 3);
  EXPECT_TRUE(p.preempted.empty());
  EXPECT_EQ(p.rows, (Rows{{0, 32}, {1, 16}}));
}

TEST(RequestScheduler, TheWorstStandsStillInsteadOfPushingOutABetterOne) {
  const Plan p = plan_of({running(0, 20), running(1, 32)}, kLimits, 0);
  EXPECT_TRUE(p.preempted.empty());
  EXPECT_EQ(p.rows, (Rows{{0, 1}}));
  // A prefill takes what there is.
  const Plan q = plan_of({running(0, 20), running(1, 32, 30)}, kLimits, 1);
  EXPECT_TRUE(q.preempted.empty());
  EXPECT_EQ(q.rows, (Rows{{0, 1}, {1, 16}}));
}

TEST(RequestScheduler, RowsOfAPreemptedRequestGoBack) {
  // In turns, as there are fewer rows than decodes: the worst is planned first, then preempted.
  std::vector<RequestView> r = {running(0, 16), running(1, 20), running(2, 20)};
  r[0].last_step = 5;
  r[1].last_step = 6;
  r[2].last_step = 4;
  const Plan p = plan_of(r, {.max_rows = 2, .max_logit_rows = 2, .max_seqs = 8}, 0);
  EXPECT_EQ(p.preempted, Ids{2});
  EXPECT_EQ(p.rows, (Rows{{0, 1}, {1, 1}}));
}

TEST(RequestScheduler, ASharedBlockCostsACopy) {
  std::vector<RequestView> r = {running(0, 20), running(1, 20)};
  r[0].copies_block = r[1].copies_block = true;
  EXPECT_EQ(plan_of(r, kLimits, 1).rows, (Rows{{0, 1}}));
  EXPECT_EQ(plan_of(r, kLimits, 2).rows, (Rows{{0, 1}, {1, 1}}));
}

TEST(RequestScheduler, AdmissionWantsBlocksForTheWholePrompt) {
  const ServeLimits few_rows{.max_rows = 16, .max_logit_rows = 4, .max_seqs = 8};
  EXPECT_TRUE(plan_of({running(0, 20), waiting(1, 80)}, few_rows, 5).admitted.empty());
  EXPECT_EQ(plan_of({running(0, 20), waiting(1, 80)}, few_rows, 6).admitted, Ids{1});
  // What a running prefill still needs is not there for others.
  const ServeLimits rows{.max_rows = 40, .max_logit_rows = 4, .max_seqs = 8};
  const std::vector<RequestView> r = {running(0, 16, 30), waiting(1, 15)};
  EXPECT_EQ(plan_of(r, rows, 3).admitted, Ids{1});
  EXPECT_TRUE(plan_of(r, rows, 2).admitted.empty());
  // Alone it starts with what there is: the prompt as a whole was checked when it came.
  EXPECT_EQ(plan_of({waiting(0, 100)}, kLimits, 2).rows, (Rows{{0, 32}}));
}

TEST(RequestScheduler, WhoIsInHisTurnKeepsIt) {
  std::vector<RequestView> r = {running(0, 20), running(1, 20), running(2, 20), running(3, 20)};
  for (size_t i = 0; i < 4; i++) r[i].last_step = 9;
  r[2].in_turn = r[3].in_turn = true;
  StreamView stream{.streaming = true};
  stream.max_decodes = 2;
  const auto rows = [&] { return plan_of(r, kLimits, 100, {{}, {}, {}}, stream).rows; };
  EXPECT_EQ(rows(), (Rows{{2, 1}, {3, 1}}));
  r[2].in_turn = false;  // ended: who waits longest comes
  r[1].last_step = 5;
  EXPECT_EQ(rows(), (Rows{{1, 1}, {3, 1}}));
  stream.max_decodes = 0;
  EXPECT_EQ(rows().size(), 4u);
}

// Turns go round whatever is due; among those whose turn it is, who is due first begins.
TEST(RequestScheduler, WhoIsDueFirstBegins) {
  std::vector<RequestView> all{running(0, 50), running(1, 50), running(2, 50)};
  all[1].deadline_s = 9;
  all[2].deadline_s = 5;
  const ServeLimits one{.max_rows = 1, .max_logit_rows = 1, .max_seqs = 8};
  std::vector<int> order;
  for (int step = 1; step <= 6; step++) {
    const Plan p = plan_of(all, one, 100);
    ASSERT_EQ(p.rows.size(), 1u);
    order.push_back(p.rows.begin()->first);
    all[static_cast<size_t>(order.back())].last_step = step;
  }
  EXPECT_EQ(order, (Ids{2, 1, 0, 2, 1, 0}));
}

TEST(RequestScheduler, AdmissionLeavesRoomForWhatRunsToGrow) {
  std::vector<RequestView> r = {running(0, 20), running(1, 30), waiting(2, 10)};
  r[0].n_more_tok = 1000;  // two blocks
  r[1].n_more_tok = 10;    // one: it will not write more
  r[2].n_more_tok = 1000;  // its own come after it was admitted
  EXPECT_TRUE(plan_of(r, kLimits, 3).admitted.empty());
  EXPECT_EQ(plan_of(r, kLimits, 4).admitted, Ids{2});
  r.push_back(waiting(3, 10));
  EXPECT_EQ(plan_of(r, kLimits, 6).admitted, Ids{2});
  EXPECT_EQ(plan_of(r, kLimits, 7).admitted, (Ids{2, 3}));
}

TEST(RequestScheduler, ReservedMemoryIsTakenOnceAndAtTheStart) {
  std::vector<RequestView> r = {running(0, 16), waiting(1, 10), waiting(2, 10)};
  r[0].n_reserve_blocks = 0;  // has it: grows without a free block
  r[1].n_reserve_blocks = r[2].n_reserve_blocks = 6;
  EXPECT_EQ(plan_of(r, kLimits, 11).admitted, Ids{1});
  EXPECT_EQ(plan_of(r, kLimits, 12).admitted, (Ids{1, 2}));
  const Plan p = plan_of(r, kLimits, 5);
  EXPECT_EQ(p.rows, (Rows{{0, 1}}));
  EXPECT_TRUE(p.admitted.empty() && p.preempted.empty());
}

TEST(RequestScheduler, ALargeRequestIsNotOvertaken) {
  const Plan p = plan_of({running(0, 20), waiting(1, 100), waiting(2, 5)}, kLimits, 4);
  EXPECT_TRUE(p.admitted.empty());
  RequestView pair = waiting(1, 10);
  pair.n_seqs = 8;
  EXPECT_TRUE(plan_of({running(0, 20), pair, waiting(2, 5)}, kLimits, 50).admitted.empty());
}

TEST(RequestScheduler, PriorityThenPreemptedThenDeadlineThenArrival) {
  std::vector<RequestView> r = {waiting(1, 64, 0, 1), waiting(2, 64), waiting(3, 64),
                                waiting(4, 64)};
  EXPECT_EQ(plan_of(r, kLimits, 100).admitted, Ids{1});
  r[2].deadline_s = 100;
  EXPECT_EQ(plan_of(r, kLimits, 100).admitted, Ids{2});
  r[3].preempted = true;
  EXPECT_EQ(plan_of(r, kLimits, 100).admitted, Ids{3});
  r[0].priority = -1;
  EXPECT_EQ(plan_of(r, kLimits, 100).admitted, Ids{0});
}

TEST(RequestScheduler, TheLeastServedTenantComesFirst) {
  const std::vector<RequestView> r = {waiting(1, 64, 0), waiting(2, 64, 1), waiting(3, 64, 2)};
  EXPECT_EQ(plan_of(r, kLimits, 100, {{500, 0}, {300, 0}, {400, 0}}).admitted, Ids{1});
  // Several in one step: what was just planned counts. 20 rows each.
  std::vector<RequestView> many;
  for (int i = 0; i < 6; i++) many.push_back(waiting(static_cast<uint64_t>(i), 20, i < 4 ? 0 : 1));
  EXPECT_EQ(plan_of(many, kLimits, 100).admitted, (Ids{0, 4, 1, 5}));
}

TEST(RequestScheduler, WaitingRaisesAPriority) {
  std::vector<RequestView> r = {waiting(1, 64, 0, 3), waiting(2, 64, 0, 0)};
  r[1].waiting_since_s = 3 * kAging + 1;
  EXPECT_EQ(plan_of(r, kLimits, 100, {{}}, {}, 2 * kAging + 1).admitted, Ids{1});
  EXPECT_EQ(plan_of(r, kLimits, 100, {{}}, {}, 3 * kAging + 2).admitted, Ids{0});
}

// Whoever floods the queue waits long, but is served: that must not count against others.
TEST(RequestScheduler, AFloodDoesNotAgeItsTenant) {
  std::vector<RequestView> r;
  for (int i = 0; i < 50; i++) r.push_back(waiting(static_cast<uint64_t>(i), 64, 0));
  r.push_back(waiting(99, 64, 1));
  r.back().waiting_since_s = 100;
  const std::vector<TenantView> tenants = {{5000, 100}, {4000, 0}};
  EXPECT_EQ(plan_of(r, kLimits, 100, tenants, {}, 101).admitted, Ids{50});
  // One that is never served gets its turn whatever its virtual time says.
  const std::vector<TenantView> unlucky = {{5000, 0}, {4000, 0}};
  EXPECT_EQ(plan_of(r, kLimits, 100, unlucky, {}, 101).admitted, Ids{0});
}

TEST(RequestScheduler, AResidentModelsPromptsGiveWayToDecodes) {
  const ServeLimits wide{.max_rows = 512, .max_logit_rows = 8, .max_seqs = 8};
  EXPECT_EQ(plan_of({running(0, 20), waiting(1, 400)}, wide, 100).rows,
            (Rows{{0, 1}, {1, kMixedPrefillRows}}));
  EXPECT_EQ(plan_of({waiting(1, 400)}, wide, 100).rows, (Rows{{0, 400}}));
}

TEST(RequestScheduler, AStreamedModelsPromptsShareTheirReads) {
  const ServeLimits wide{.max_rows = 512, .max_logit_rows = 8, .max_seqs = 8};
  StreamView s{.streaming = true,
               .prefill_bytes = 1000,
               .decode_bytes_since_prefill = 400,
               .n_steps_since_prefill = 2};
  const std::vector<RequestView> r = {running(0, 20), waiting(1, 300)};
  EXPECT_EQ(plan_of(r, wide, 100, {{}}, s).rows, (Rows{{0, 1}}));  // held
  const std::vector<RequestView> full = {running(0, 20), waiting(1, 300), waiting(2, 300)};
  EXPECT_EQ(plan_of(full, wide, 100, {{}}, s).rows, (Rows{{0, 1}, {1, 300}, {2, 211}}));
  EXPECT_EQ(plan_of({waiting(1, 300)}, wide, 100, {{}}, s).rows, (Rows{{0, 300}}));
  s.decode_bytes_since_prefill = 1000;
  EXPECT_EQ(plan_of(r, wide, 100, {{}}, s).rows, (Rows{{0, 1}, {1, 300}}));
  s.decode_bytes_since_prefill = 0;
  s.n_steps_since_prefill = kMaxHeldSteps;
  EXPECT_EQ(plan_of(r, wide, 100, {{}}, s).rows, (Rows{{0, 1}, {1, 300}}));
}

// A model that takes no time, with exact books: every rule is checked in every step.
class FakeServer {
 public:
  struct Job {
    int n_prompt = 0, n_answer = 0, n_choices = 1;
    int priority = 0, tenant = 0;
    uint64_t arrival = 0;
    int n_done = 0;  // answer tokens
    int n_computed = 0;
    bool running = false, preempted = false;
    double since_s = 0;
    int64_t last_step = 0;
    int n_tok() const { return n_prompt + n_done; }
    int n_blocks() const { return (n_computed + kKvBlock - 1) / kKvBlock; }
  };

  FakeServer(ServeLimits limits, int n_blocks, bool streaming)
      : limits_(limits), n_blocks_(n_blocks), tenants_(4) {
    stream_.streaming = streaming;
  }

  uint64_t submit(Job job) {
    job.arrival = n_arrivals_++;
    job.since_s = now_s_;
    jobs_.push_back(job);
    return job.arrival;
  }
  bool finished(uint64_t arrival) const {
    return std::none_of(jobs_.begin(), jobs_.end(),
                        [&](const Job& j) { return j.arrival == arrival; });
  }

  bool idle() const { return jobs_.empty(); }
  int n_preemptions() const { return n_preemptions_; }
  int n_finished() const { return n_finished_; }

  void step() {
    std::vector<RequestView> views;
    for (const Job& j : jobs_) views.push_back(view(j));
    const int n_free = n_blocks_ - used_blocks();
    ASSERT_GE(n_free, 0);
    const ScheduleResult r = schedule_requests({.requests = views,
                                                .tenants = tenants_,
                                                .n_free_blocks = n_free,
                                                .limits = limits_,
                                                .stream = stream_,
                                                .now_s = now_s_});
    ASSERT_NO_FATAL_FAILURE(check(r, views, n_free));
    apply(r);
    now_s_ += 0.5;
    n_steps_++;
  }

 private:
  int used_blocks() const {
    int n = 0;
    for (const Job& j : jobs_) n += j.running ? j.n_blocks() : 0;
    return n;
  }

  RequestView view(const Job& j) const {
    RequestView v = j.running ? running(j.arrival, j.n_computed, j.n_tok() - j.n_computed)
                              : waiting(j.arrival, j.n_tok());
    v.n_logits_from = v.n_pending_tok - 1;
    v.preempted = j.preempted;
    v.n_seqs = j.n_choices;
    v.priority = j.priority;
    v.tenant = j.tenant;
    v.waiting_since_s = j.since_s;
    v.last_step = j.last_step;
    return v;
  }

  void check(const ScheduleResult& r, const std::vector<RequestView>& views, int n_free) {
    ASSERT_FALSE(r.rows.empty() && r.preempted.empty()) << "no progress";
    ASSERT_FALSE(r.rows.empty()) << "preempted for nobody";
    int n_rows = 0, n_logits = 0, n_seqs = 0, n_blocks = 0;
    std::vector<bool> planned(jobs_.size()), gone(jobs_.size());
    for (int i : r.preempted) {
      ASSERT_TRUE(views[static_cast<size_t>(i)].running);
      gone[static_cast<size_t>(i)] = true;
      n_free += jobs_[static_cast<size_t>(i)].n_blocks();
    }
    for (const RowPlan& p : r.rows) {
      const auto i = static_cast<size_t>(p.seq);
      const RequestView& v = views[i];
      ASSERT_FALSE(planned[i] || gone[i]);
      planned[i] = true;
      ASSERT_GE(p.n_tok, 1);
      ASSERT_LE(p.n_tok, v.n_pending_tok);
      n_rows += p.n_tok;
      n_logits += std::max(0, p.n_tok - v.n_logits_from);
      n_blocks += (std::max(0, p.n_tok - v.n_room_tok) + kKvBlock - 1) / kKvBlock;
      const bool admitted = std::count(r.admitted.begin(), r.admitted.end(), p.seq) == 1;
      ASSERT_EQ(admitted, !v.running);
    }
    ASSERT_LE(n_rows, limits_.max_rows);
    ASSERT_LE(n_logits, limits_.max_logit_rows);
    ASSERT_LE(n_blocks, n_free);
    for (size_t i = 0; i < jobs_.size(); i++)
      if ((jobs_[i].running && !gone[i]) || planned[i]) n_seqs += jobs_[i].n_choices;
    ASSERT_LE(n_seqs, limits_.max_seqs);
    if (!r.preempted.empty()) {
      ASSERT_TRUE(r.admitted.empty());
    }
    // Nobody better than one that stays was preempted, and the best of all moves.
    const auto key = [&](size_t i) { return std::pair(jobs_[i].priority, jobs_[i].arrival); };
    for (size_t i = 0; i < jobs_.size(); i++)
      for (int p : r.preempted)
        if (jobs_[i].running && !gone[i]) {
          ASSERT_LT(key(i), key(static_cast<size_t>(p)));
        }
  }

  void apply(const ScheduleResult& r) {
    for (int i : r.preempted) {
      Job& j = jobs_[static_cast<size_t>(i)];
      j.running = false;
      j.preempted = true;
      j.n_computed = 0;
      j.since_s = now_s_;
      n_preemptions_++;
    }
    uint64_t bytes = 0;
    int n_rows = 0;
    for (const RowPlan& p : r.rows) {
      Job& j = jobs_[static_cast<size_t>(p.seq)];
      if (!j.running) {
        tenants_[static_cast<size_t>(j.tenant)].last_admitted_s = now_s_;
      }
      j.running = true;
      j.preempted = false;
      j.n_computed += p.n_tok;
      j.last_step = n_steps_;
      tenants_[static_cast<size_t>(j.tenant)].n_served_rows += static_cast<uint64_t>(p.n_tok);
      n_rows += p.n_tok;
      bytes = std::min<uint64_t>(64, bytes + 8 * static_cast<uint64_t>(p.n_tok));
      if (j.n_computed == j.n_tok()) j.n_done++;
    }
    const bool prefill = n_rows > static_cast<int>(r.rows.size());
    stream_.n_steps_since_prefill = prefill ? 0 : stream_.n_steps_since_prefill + 1;
    stream_.decode_bytes_since_prefill = prefill ? 0 : stream_.decode_bytes_since_prefill + bytes;
    if (prefill) stream_.prefill_bytes = bytes;
    n_finished_ += static_cast<int>(
        std::erase_if(jobs_, [](const Job& j) { return j.running && j.n_done >= j.n_answer; }));
  }

  ServeLimits limits_;
  int n_blocks_;
  std::vector<TenantView> tenants_;
  StreamView stream_;
  std::vector<Job> jobs_;
  uint64_t n_arrivals_ = 0;
  int64_t n_steps_ = 0;
  double now_s_ = 1;
  int n_preemptions_ = 0, n_finished_ = 0;
};

TEST(RequestSchedulerProperty, RandomArrivals) {
  std::mt19937 random(5);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  int n_preemptions = 0;
  for (int world = 0; world < 150; world++) {
    SCOPED_TRACE(world);
    const int max_seqs = 1 + below(8);
    const ServeLimits limits{.max_rows = max_seqs + below(64),
                             .max_logit_rows = max_seqs + below(3),
                             .max_seqs = max_seqs};
    const int n_blocks = 6 + below(20);
    FakeServer server(limits, n_blocks, world % 3 == 0);
    int n_jobs = 0;
    for (int step = 0; step < 400; step++) {
      if (below(6) == 0) {
        const int n_prompt = 1 + below(n_blocks * kKvBlock - 40);
        server.submit({.n_prompt = n_prompt,
                       .n_answer = 1 + below(40),
                       .priority = below(3),
                       .tenant = below(4)});
        n_jobs++;
      }
      if (server.idle()) continue;
      ASSERT_NO_FATAL_FAILURE(server.step());
    }
    // Everything ends once nothing new comes; a step computes at least a row, recomputed ones
    // included.
    for (int step = 0; step < 200000 && !server.idle(); step++)
      ASSERT_NO_FATAL_FAILURE(server.step());
    ASSERT_TRUE(server.idle()) << "live lock";
    ASSERT_EQ(server.n_finished(), n_jobs);
    n_preemptions += server.n_preemptions();
  }
  EXPECT_GT(n_preemptions, 100);
}

// More urgent requests than the server can do, for ever, and one of low priority: of the same
// tenant, or of another one.
TEST(RequestSchedulerProperty, NobodyStarves) {
  for (const int tenant : {0, 1}) {
    FakeServer server({.max_rows = 32, .max_logit_rows = 2, .max_seqs = 2}, 20, false);
    server.submit({.n_prompt = 100, .n_answer = 1, .priority = 4, .tenant = 2});  // at work
    for (int i = 0; i < 4; i++) server.submit({.n_prompt = 60, .n_answer = 4, .tenant = 0});
    const uint64_t low =
        server.submit({.n_prompt = 100, .n_answer = 1, .priority = 4, .tenant = tenant});
    int n_urgent = 4, n_steps = 0;
    while (!server.finished(low) && n_steps < 4000) {
      if (n_steps++ % 2 == 0) {
        server.submit({.n_prompt = 60, .n_answer = 4, .tenant = 0});
        n_urgent++;
      }
      ASSERT_NO_FATAL_FAILURE(server.step());
    }
    EXPECT_TRUE(server.finished(low));
    EXPECT_GT(n_steps, 60);  // it did wait: four levels are 120 steps of half a second
    EXPECT_GT(n_urgent - server.n_finished(), 5);
  }
}

// Two tenants with equal needs, one of which sends ten times as much: equal shares while both want.
TEST(RequestSchedulerProperty, TenantsShareEqually) {
  std::vector<TenantView> tenants(2);
  std::vector<RequestView> queue;
  uint64_t arrival = 0;
  for (int i = 0; i < 200; i++) queue.push_back(waiting(arrival++, 64, 0));
  for (int i = 0; i < 20; i++) queue.push_back(waiting(arrival++, 64, 1));
  int n[2] = {};
  double now = 0;
  for (int step = 0; step < 40; step++, now += 2) {
    const Plan p = plan_of(queue, kLimits, 100, tenants, {}, now);
    ASSERT_EQ(p.admitted.size(), 1u);
    const auto i = static_cast<size_t>(p.admitted[0]);
    const auto t = static_cast<size_t>(queue[i].tenant);
    n[t]++;
    tenants[t].n_served_rows += 64;
    tenants[t].last_admitted_s = now;
    queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(i));
  }
  EXPECT_EQ(n[0], 20);
  EXPECT_EQ(n[1], 20);
}

}  // namespace
}  // namespace hob
