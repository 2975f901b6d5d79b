// The controller on simulated machines.
#include "engine/memory_pressure.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace hob {
namespace {

constexpr int64_t kMiB = 1 << 20, kGiB = 1 << 30;

// A machine with one expert cache, other programs, and perhaps a cgroup; one second per step.
struct Machine {
  int64_t total = 16 * kGiB;
  int64_t limit = 0;          // of the group, which holds only our process; 0 = none
  int64_t base = 2 * kGiB;    // of our process, besides the slots
  int64_t others = 1 * kGiB;  // other programs
  int64_t others_want = 0;    // they take 100 MiB/s as long as there are; 0 = what they have
  int64_t fill_per_s = 512 * kMiB;
  int delay_s = 0;  // until the engine carries out an order
  uint64_t least = 8 * kMiB, full = 8 * kGiB;
  PressureController controller{least, full};

  int64_t used = 0, applied = static_cast<int64_t>(full);
  int now = 0, order_age = 0;
  int n_shrinks = 0, n_grows = 0, last_change = 0, n_dead = 0;
  bool grew = false;  // since the world changed
  int n_regrets = 0;  // shrinks after that

  int64_t machine_room() const { return total - base - others - used; }
  int64_t group_room() const { return limit ? limit - base - used : INT64_MAX; }

  PressureSample sample() const {
    PressureSample s;
    s.now_s = now;
    s.used_bytes = static_cast<uint64_t>(used);
    const auto stall = [](int64_t room) {
      return MemoryStall{room < 2 * kMiB ? 50. : 0., room < 2 * kMiB ? 20. : 0.};
    };
    s.machine = {std::max<int64_t>(0, machine_room()), stall(machine_room())};
    if (limit) s.group = {group_room(), stall(group_room())};
    return s;
  }
  void second() {
    now++;
    if (others_want > 0)
      others = std::min({others_want, others + 100 * kMiB, others + machine_room()});
    used = std::min({applied, used + fill_per_s,
                     used + std::max<int64_t>(0, std::min(machine_room(), group_room()))});
    const uint64_t before = controller.budget_bytes(), after = controller.update(sample());
    ASSERT_GE(after, least);
    ASSERT_LE(after, full);
    n_shrinks += after < before;
    n_grows += after > before;
    n_regrets += after < before && grew;
    grew |= after > before;
    if (after != before) last_change = now;
    order_age = applied == static_cast<int64_t>(after) ? 0 : order_age + 1;
    if (order_age > delay_s) {
      applied = static_cast<int64_t>(after);
      used = std::min(used, applied);
    }
    n_dead += std::min(machine_room(), group_room()) < 0;
  }
  void run(int seconds) {
    for (int i = 0; i < seconds; i++) second();
  }
};

TEST(MemoryPressure, NothingHappensToAPlanThatFits) {
  Machine m;
  m.limit = 10 * kGiB + 8 * kMiB;  // --memory equal to MemoryMax: 8 MiB are left
  m.run(3600);
  EXPECT_EQ(m.controller.budget_bytes(), m.full);
  EXPECT_EQ(m.n_shrinks, 0);
}

TEST(MemoryPressure, LoweredLimitIsMetAtOnceAndExactly) {
  Machine m;
  m.limit = 12 * kGiB;
  m.run(60);
  ASSERT_EQ(m.used, 8 * kGiB);
  m.limit = 6 * kGiB;
  m.run(2);
  EXPECT_GE(m.group_room(), 0);
  EXPECT_GT(m.used, 3 * kGiB);  // no more than what is missing
  const uint64_t at = m.controller.budget_bytes();
  m.run(600);
  EXPECT_EQ(m.controller.budget_bytes(), at);  // 2 m are there, more than 4 m never
  EXPECT_EQ(m.n_shrinks, 1);
  EXPECT_EQ(m.n_grows, 0);
}

TEST(MemoryPressure, GrowsBackWhenTheLimitDoes) {
  Machine m;
  m.limit = 12 * kGiB;
  m.run(60);
  m.limit = 6 * kGiB;
  m.run(60);
  m.limit = 12 * kGiB;
  m.run(25);
  EXPECT_EQ(m.n_grows, 0);
  m.run(15);
  EXPECT_GE(m.n_grows, 1);
  m.run(200);
  EXPECT_EQ(m.controller.budget_bytes(), m.full);
  EXPECT_EQ(m.n_shrinks, 1);
}

TEST(MemoryPressure, OtherProgramsTakeTheMachine) {
  Machine m;
  m.run(60);
  for (int i = 0; i < 60; i++) {  // 100 MiB/s
    m.others += 100 * kMiB;
    m.second();
    EXPECT_GE(m.machine_room(), 0) << i;
  }
  EXPECT_LT(m.controller.budget_bytes(), m.full);
  EXPECT_EQ(m.n_dead, 0);
  m.others = 1 * kGiB;
  m.run(400);
  EXPECT_EQ(m.controller.budget_bytes(), m.full);
}

TEST(MemoryPressure, SlowEngineIsNotAskedAgainForWhatItWillGive) {
  Machine m;
  m.limit = 12 * kGiB;
  m.delay_s = 7;  // a long prefill step
  m.run(60);
  m.limit = 6 * kGiB;
  m.run(30);
  EXPECT_GE(m.group_room(), 0);
  EXPECT_GT(m.used, 3 * kGiB);
  EXPECT_EQ(m.n_shrinks, 1);
}

TEST(MemoryPressure, NothingLeftToGive) {
  Machine m;
  m.limit = 12 * kGiB;
  m.run(30);
  m.limit = kGiB;  // less than the rest of the process
  m.run(100);
  EXPECT_EQ(m.controller.budget_bytes(), m.least);
}

MemoryScope scope(int64_t headroom, double some, double full) { return {headroom, {some, full}}; }

TEST(MemoryPressure, StallsCountOnlyWithSmallHeadroom) {
  for (const bool small : {false, true}) {
    PressureController c(kMiB, 8 * kGiB);
    PressureSample s;
    s.used_bytes = 8 * kGiB;
    s.machine = scope(4 * kGiB, 0, 0);  // m = 256 MiB
    EXPECT_EQ(c.update(s), static_cast<uint64_t>(8 * kGiB));
    s.machine = scope(small ? 700 * kMiB : 800 * kMiB, 80, 60);
    s.now_s = 1;
    EXPECT_EQ(c.update(s), static_cast<uint64_t>(small ? 7 * kGiB : 8 * kGiB));
  }
}

// avg10 falls slowly: one shrink per window, not one per second.
TEST(MemoryPressure, OldStallsDoNotShrinkTwice) {
  PressureController c(kMiB, 8 * kGiB);
  PressureSample s;
  s.machine = scope(4 * kGiB, 0, 0);
  s.used_bytes = 8 * kGiB;
  c.update(s);
  s.machine = scope(700 * kMiB, 0, 12);
  int n = 0;
  for (int t = 1; t <= 20; t++) {
    s.now_s = t;
    const uint64_t before = c.budget_bytes();
    s.used_bytes = c.update(s);
    n += s.used_bytes < before;
  }
  EXPECT_EQ(n, 2);
}

// A cache that was never filled gives nothing back by a smaller budget above what it holds.
TEST(MemoryPressure, UnfilledRoomIsNoMemory) {
  PressureController c(kMiB, 8 * kGiB);
  PressureSample s;
  s.used_bytes = 2 * kGiB;
  s.group = scope(20 * kGiB, 0, 0);
  c.update(s);
  s.now_s = 1;
  s.group = scope(0, 0, 0);
  EXPECT_EQ(c.update(s), static_cast<uint64_t>(2 * kGiB - 512 * kMiB));
}

TEST(MemoryPressure, WithoutSourcesNothingChanges) {
  PressureController c(kMiB, 8 * kGiB);
  PressureSample s;
  for (int t = 0; t < 1000; t++) {
    s.now_s = t;
    s.used_bytes = t % 2 * kGiB;
    EXPECT_EQ(c.update(s), static_cast<uint64_t>(8 * kGiB));
  }
}

// Any machine, any events: after each the cache is within its means in seconds, comes to rest, and
// never shrinks because of its own growth.
TEST(MemoryPressure, AnyMachineComesToRest) {
  std::mt19937_64 rng(1);
  const auto between = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(rng() % static_cast<uint64_t>(high - low + 1));
  };
  int n_shrunk = 0, n_whole = 0;
  for (int world = 0; world < 300; world++) {
    Machine m;
    m.total = between(4 * kGiB, 64 * kGiB);
    m.base = between(100 * kMiB, m.total / 4);
    m.others = between(0, m.total / 4);
    m.least = static_cast<uint64_t>(between(kMiB, 32 * kMiB));
    m.full = static_cast<uint64_t>(between(64 * kMiB, m.total / 2 - 300 * kMiB));
    m.applied = static_cast<int64_t>(m.full);
    m.controller = PressureController(m.least, m.full);
    m.fill_per_s = between(10 * kMiB, kGiB);
    m.delay_s = static_cast<int>(between(0, 4));
    const int64_t own = m.base + static_cast<int64_t>(m.full);
    if (rng() % 2) m.limit = own + between(8 * kMiB, kGiB);
    const int64_t limit = m.limit, others = m.others;
    m.run(300);
    ASSERT_EQ(m.n_shrinks, 0) << world;
    for (int event = 0; event < 3; event++) {
      const int64_t least_limit = m.base + static_cast<int64_t>(m.least) + 600 * kMiB;
      if (m.limit) m.limit = between(std::min(least_limit, limit), limit);
      m.others_want = between(1, m.total - m.base - static_cast<int64_t>(m.least) - 600 * kMiB);
      m.run(10 + 2 * m.delay_s);
      ASSERT_GE(m.group_room(), 0) << world;
      m.run(static_cast<int>((m.others_want - m.others) / (50 * kMiB)) + 30);
      ASSERT_EQ(m.others, m.others_want) << world << ": others wait for memory that is a cache's";
      m.grew = false;
      m.n_regrets = 0;
      m.run(4000);
      ASSERT_EQ(m.n_regrets, 0) << world << ": it shrank because it had grown";
      ASSERT_LT(m.last_change, m.now - 300) << world << ": no rest";
      n_shrunk += m.controller.budget_bytes() < m.full;
    }
    m.limit = limit ? limit + 4 * kGiB : 0;
    m.others_want = others + 1;
    m.run(4000);
    n_whole += m.controller.budget_bytes() == m.full;
  }
  EXPECT_GT(n_shrunk, 200);
  EXPECT_EQ(n_whole, 300);
}

TEST(PressureNotes, FewLines) {
  PressureNotes notes(8 * kGiB);
  EXPECT_FALSE(notes.update(8 * kGiB, 0));
  EXPECT_EQ(notes.update(7 * kGiB, 1),
            "memory is short: the expert cache shrinks from 8.00 GiB to 7.00 GiB");
  EXPECT_FALSE(notes.update(6 * kGiB, 2));
  EXPECT_FALSE(notes.update(5 * kGiB, 3));
  EXPECT_EQ(notes.update(5 * kGiB, 11),
            "memory is short: the expert cache shrinks from 7.00 GiB to 5.00 GiB");
  EXPECT_FALSE(notes.update(6 * kGiB, 50));
  EXPECT_FALSE(notes.update(7 * kGiB, 60));
  EXPECT_EQ(notes.update(8 * kGiB, 70), "memory is back: the expert cache has 8.00 GiB again");
  EXPECT_FALSE(notes.update(8 * kGiB, 71));
}

}  // namespace
}  // namespace hob
