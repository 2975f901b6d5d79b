// The emulated path in virtual time, and the commands and options of tools/wanrelay.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <vector>

#include "base/error.h"
#include "wanrelay/command.h"
#include "wanrelay/delay_histogram.h"
#include "wanrelay/delay_line.h"
#include "wanrelay/options.h"

namespace hob::wan {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr double kByteEachUs = 8e6;  // bits per second

std::vector<Fate> fates(const LineConfig& config, uint64_t seed, int n, int64_t step_ns = kMs) {
  DelayLine line(config, seed);
  std::vector<Fate> out;
  for (int i = 0; i < n; i++) out.push_back(line.push(1000, i * step_ns).fate);
  return out;
}

TEST(DelayLine, WithoutSettingsAPacketLeavesAtOnce) {
  DelayLine line({}, 1);
  const Verdict v = line.push(1500, 42);
  EXPECT_EQ(v.fate, Fate::kPasses);
  EXPECT_EQ(v.due_ns, 42);
}

TEST(DelayLine, RateMakesPacketsWaitForEachOther) {
  DelayLine line({.delay_ns = 7 * kMs, .rate_bit_s = kByteEachUs}, 1);
  EXPECT_EQ(line.push(1000, 0).due_ns, 8 * kMs);
  EXPECT_EQ(line.push(500, 0).due_ns, 8 * kMs + kMs / 2);
  EXPECT_EQ(line.push(1000, 5 * kMs).due_ns, 13 * kMs);  // the link was free again
}

TEST(DelayLine, QueueIsOfBytesThatWaitForTheLink) {
  DelayLine line({.delay_ns = 1000 * kMs, .rate_bit_s = kByteEachUs, .queue_bytes = 3000}, 1);
  EXPECT_EQ(line.push(1500, 0).fate, Fate::kPasses);
  EXPECT_EQ(line.push(1500, 0).fate, Fate::kPasses);
  EXPECT_EQ(line.push(1, 0).fate, Fate::kQueueFull);
  EXPECT_DOUBLE_EQ(line.waiting_bytes(kMs), 2000);
  EXPECT_EQ(line.push(1001, kMs).fate, Fate::kQueueFull);
  EXPECT_EQ(line.push(1000, kMs).fate, Fate::kPasses);
  EXPECT_DOUBLE_EQ(line.waiting_bytes(10 * kMs), 0);  // on the way still, but past the link
}

TEST(DelayLine, AnUnlimitedRateHasNoQueue) {
  DelayLine line({.delay_ns = 1000 * kMs, .queue_bytes = 1500}, 1);
  for (int i = 0; i < 100; i++) EXPECT_EQ(line.push(1500, 0).fate, Fate::kPasses);
}

TEST(DelayLine, JitterAddsToTheDelayAndKeepsTheOrder) {
  const LineConfig config{.delay_ns = 7 * kMs, .jitter_ns = 5 * kMs};
  DelayLine line(config, 3);
  int64_t last = 0, n_late = 0;
  for (int i = 0; i < 1000; i++) {
    const int64_t now = i * kMs / 4;
    const int64_t due = line.push(100, now).due_ns;
    EXPECT_GE(due, last);
    EXPECT_GE(due - now, config.delay_ns);
    EXPECT_LT(due - now, config.delay_ns + config.jitter_ns);
    n_late += due - now > config.delay_ns + kMs;
    last = due;
  }
  EXPECT_GT(n_late, 500);
}

TEST(DelayLine, JitterOfLonePacketsIsUniform) {
  DelayLine line({.jitter_ns = 4 * kMs}, 5);
  std::vector<int> counts(4);
  for (int i = 0; i < 4000; i++) {
    const int64_t now = i * 100 * kMs;
    counts.at(static_cast<size_t>((line.push(100, now).due_ns - now) / kMs))++;
  }
  for (int n : counts) EXPECT_NEAR(n, 1000, 120);  // four standard deviations
}

TEST(DelayLine, LossHasItsShareAndFollowsTheSeed) {
  const auto some = fates({.loss = .05}, 1, 20'000);
  EXPECT_NEAR(std::count(some.begin(), some.end(), Fate::kLost), 1000, 125);
  EXPECT_EQ(some, fates({.loss = .05}, 1, 20'000));
  EXPECT_NE(some, fates({.loss = .05}, 2, 20'000));
  const auto all = fates({.loss = 1}, 1, 100);
  EXPECT_EQ(std::count(all.begin(), all.end(), Fate::kLost), 100);
  const auto none = fates({}, 1, 100);
  EXPECT_EQ(std::count(none.begin(), none.end(), Fate::kPasses), 100);
}

TEST(DelayLine, OtherSettingsDoNotMoveTheLosses) {
  const auto plain = fates({.loss = .2}, 9, 500);
  EXPECT_EQ(plain,
            fates({.delay_ns = kMs, .jitter_ns = kMs, .rate_bit_s = 9e9, .loss = .2}, 9, 500));
  // A link that is too slow: what its queue lets through has the fates of before.
  const auto slow = fates({.rate_bit_s = kByteEachUs / 2, .loss = .2, .queue_bytes = 5000}, 9, 500);
  int n_full = 0;
  for (size_t i = 0; i < slow.size(); i++) {
    if (slow[i] == Fate::kQueueFull) {
      n_full++;
    } else {
      EXPECT_EQ(slow[i], plain[i]) << i;
    }
  }
  EXPECT_GT(n_full, 200);
}

TEST(DelayLine, ALostPacketHasUsedTheLink) {
  DelayLine line({.rate_bit_s = kByteEachUs, .loss = 1}, 1);
  EXPECT_EQ(line.push(1000, 0).fate, Fate::kLost);
  EXPECT_DOUBLE_EQ(line.waiting_bytes(0), 1000);
}

TEST(DelayLine, AnOutageEndsByItselfOrByRestore) {
  DelayLine line({.rate_bit_s = kByteEachUs}, 1);
  line.cut_until(10 * kMs);
  EXPECT_EQ(line.push(1000, 9 * kMs).fate, Fate::kOutage);
  EXPECT_DOUBLE_EQ(line.waiting_bytes(9 * kMs), 0);
  EXPECT_EQ(line.push(1000, 10 * kMs).fate, Fate::kPasses);
  line.cut_until(kForever);
  EXPECT_TRUE(line.is_cut(kForever - 1));
  EXPECT_EQ(line.push(1000, 1000 * kMs).fate, Fate::kOutage);
  line.restore();
  EXPECT_EQ(line.push(1000, 1000 * kMs).fate, Fate::kPasses);
}

TEST(DelayLine, AShorterDelayDoesNotReorder) {
  DelayLine line({.delay_ns = 50 * kMs}, 1);
  EXPECT_EQ(line.push(100, 0).due_ns, 50 * kMs);
  line.set_delay(kMs);
  EXPECT_EQ(line.push(100, 10 * kMs).due_ns, 50 * kMs);
  EXPECT_EQ(line.push(100, 60 * kMs).due_ns, 61 * kMs);
}

TEST(DelayHistogram, EmptyIsZero) {
  const DelayHistogram h;
  EXPECT_EQ(h.quantile_ms(.5), 0);
  EXPECT_EQ(h.max_ms(), 0);
  EXPECT_TRUE(h.buckets().empty());
}

TEST(DelayHistogram, QuantilesAreWithinABucket) {
  DelayHistogram h;
  for (int i = 1; i <= 1000; i++) h.add(i * kMs / 10);
  EXPECT_EQ(h.n(), 1000u);
  EXPECT_EQ(h.min_ms(), .1);
  EXPECT_EQ(h.max_ms(), 100);
  EXPECT_EQ(h.quantile_ms(1), 100);
  for (double q : {.01, .1, .5, .9, .99}) {
    EXPECT_GE(h.quantile_ms(q), 100 * q);
    EXPECT_LE(h.quantile_ms(q), 100 * q * (1 + 1. / 64) + .001);
  }
}

TEST(DelayHistogram, BucketsBeginAtOrBelowTheirValues) {
  for (int64_t us : {0, 1, 63, 64, 65, 127, 128, 129, 130, 255, 256, 7000, 60'000'000}) {
    DelayHistogram h;
    h.add(us * 1000);
    ASSERT_EQ(h.buckets().size(), 1u);
    const double ms = static_cast<double>(us) / 1000;
    EXPECT_LE(h.buckets()[0].first, ms);
    EXPECT_GE(h.buckets()[0].first, ms * (1 - 1. / 64) - 1e-9);
    EXPECT_EQ(h.quantile_ms(.5), ms);
  }
}

TEST(DelayHistogram, AClockThatHasNotMovedIsZero) {
  DelayHistogram h;
  h.add(-5);
  EXPECT_EQ(h.max_ms(), 0);
}

TEST(WanCommand, Parses) {
  const Command drop = parse_command("drop up 2.5");
  EXPECT_EQ(drop.verb, Verb::kDrop);
  EXPECT_TRUE(drop.up && !drop.down);
  EXPECT_EQ(drop.time_ns, 2500 * kMs);
  const Command forever = parse_command("  drop\tboth  forever\r");
  EXPECT_TRUE(forever.up && forever.down);
  EXPECT_EQ(forever.time_ns, kForever);
  EXPECT_EQ(parse_command("restore").verb, Verb::kRestore);
  EXPECT_EQ(parse_command("stats").verb, Verb::kStats);
  const Command delay = parse_command("delay 7");
  EXPECT_EQ(delay.verb, Verb::kDelay);
  EXPECT_TRUE(delay.up && delay.down);
  EXPECT_EQ(delay.time_ns, 7 * kMs);
  EXPECT_TRUE(parse_command("delay down 0").down);
  EXPECT_FALSE(parse_command("delay down 0").up);
}

TEST(WanCommand, RefusesEverythingElse) {
  for (const char* bad : {"",
                          " ",
                          "drop",
                          "drop up",
                          "drop 2",
                          "drop left 2",
                          "drop up -1",
                          "drop up inf",
                          "drop up nan",
                          "drop up 2s",
                          "drop up 2 3",
                          "drop up 1e9",
                          "delay",
                          "delay forever",
                          "delay up",
                          "delay 60001",
                          "delay up 1 2",
                          "restore up",
                          "stats 1",
                          "Stats",
                          "stats\nstats"})
    EXPECT_THROW(parse_command(bad), Error) << bad;
}

TEST(WanOptions, RatesAreDecimal) {
  EXPECT_EQ(parse_rate("0"), 0);
  EXPECT_EQ(parse_rate("9600"), 9600);
  EXPECT_EQ(parse_rate("64k"), 64e3);
  EXPECT_EQ(parse_rate("20M"), 20e6);
  EXPECT_EQ(parse_rate("1.5G"), 1.5e9);
  for (const char* bad : {"", "M", "-1", "1", "20Mbit", "20 M", "nan", "inf", "1e300", "9999G"})
    EXPECT_THROW(parse_rate(bad), Error) << bad;
}

Options parse(std::vector<const char*> args) {
  CLI::App app;
  args.insert(args.begin(), "wanrelay");
  return parse_options(app, static_cast<int>(args.size()), args.data());
}

TEST(WanOptions, OneValueIsForBothDirections) {
  const Options o = parse({"--left", "a", "--right", "b", "--delay", "7", "--jitter", "1,2", "--up",
                           "20M", "--down", "100M", "--loss", "0.5", "--queue", "64K,1M"});
  EXPECT_EQ(o.up.delay_ns, 7 * kMs);
  EXPECT_EQ(o.down.delay_ns, 7 * kMs);
  EXPECT_EQ(o.up.jitter_ns, kMs);
  EXPECT_EQ(o.down.jitter_ns, 2 * kMs);
  EXPECT_EQ(o.up.rate_bit_s, 20e6);
  EXPECT_EQ(o.down.rate_bit_s, 100e6);
  EXPECT_DOUBLE_EQ(o.up.loss, .005);
  EXPECT_EQ(o.up.queue_bytes, 64u << 10);
  EXPECT_EQ(o.down.queue_bytes, 1u << 20);
}

TEST(WanOptions, RefusesWhatCannotBe) {
  const std::vector<std::vector<const char*>> cases = {{"--right", "a"},
                                                       {"--delay", "-1"},
                                                       {"--delay", "1,2,3"},
                                                       {"--delay", "nan"},
                                                       {"--loss", "101"},
                                                       {"--queue", "1000"},
                                                       {"--left-ip", "10.9.0.2"},
                                                       {"--right-ip", "::1"},
                                                       {"--mtu", "10"},
                                                       {"--up", "fast"},
                                                       {"--device", "a/b"},
                                                       {"--device", "sixteen-letters-"},
                                                       {"--send", "stats"},
                                                       {"--nonsense", "1"},
                                                       {"--control", "x", "--send", "hello"},
                                                       {"--control", "x", "--send", ""}};
  for (std::vector<const char*> args : cases) {
    const std::string name = args[0] + std::string(" ") + args[1];
    if (args[0] != std::string("--right")) args.insert(args.end(), {"--right", "b"});
    args.insert(args.begin(), {"--left", "a"});
    EXPECT_THROW(parse(args), Error) << name;
  }
  EXPECT_THROW(parse({}), Error);
}

}  // namespace
}  // namespace hob::wan
