#pragma once
// How much memory the expert slots may have while the machine or the cgroup runs short. Everything
// else in the process is needed as it is; the slots are a cache. Pure: no clock, no files.
//
// What counts is headroom: how far the machine (MemAvailable) and the tightest memory cgroup
// (limit - usage + inactive page cache) are from the point where the kernel kills, throttles or
// swaps. Both are judged in units of a margin m, an eighth of the headroom that there was when the
// model had been loaded (see kLeastMargin), so that a plan which fits its limit with little to
// spare is no emergency:
//
//   below 1 m   shrink, at once to 2 m, by at least 1/8 of what the slots hold
//   below 3 m   shrink by 1/8 if tasks stall for memory (PSI), once per averaging window
//   above 4 m   for calm_s: grow in small steps, never to below 4 m
//   8 m         what there was at first
//
// Each level lies a whole margin from the next, so no step can cause the opposite one. Stalls
// without small headroom are no reason: then they come from other processes (a full page cache that
// thrashes, another group at its limit), and our memory would not help them.
#include <cstdint>
#include <optional>
#include <string>

#include "base/memory_info.h"

namespace hob {

struct MemoryScope {
  int64_t headroom_bytes = 0;  // below zero: above the limit
  MemoryStall stall;
};

struct PressureSample {
  std::optional<MemoryScope> machine, group;  // as far as the system tells
  uint64_t used_bytes = 0;                    // by the slots, now
  double now_s = 0;                           // monotonic
};

PressureSample pressure_sample(const MemoryInfo& info, uint64_t used_bytes, double now_s);

// Between two decisions, in seconds.
struct PressureTimes {
  // What was given back shows in the kernel's counters within a second (v1 and MemAvailable sum
  // per-CPU counters that often).
  double shrink_s = 1;
  double stall_s = 10;  // PSI's avg10 remembers the stalls before a shrink for so long
  double calm_s = 30;   // a load that comes and goes faster than this is not worth refilling for
  double grow_s = 10;   // full/16 each: everything in under three minutes, and the slots can fill
};

class PressureController {
 public:
  PressureController(uint64_t least_bytes, uint64_t full_bytes, PressureTimes times = {})
      : least_(least_bytes), full_(full_bytes), times_(times), budget_(full_bytes) {}

  // The budget that the slots should have now. Asked about once a second.
  uint64_t update(const PressureSample& sample);
  uint64_t budget_bytes() const { return budget_; }

 private:
  struct Margins {
    std::optional<uint64_t> machine, group;
  };
  struct Judgement {
    uint64_t missing = 0;      // to 2 m, of the scope that misses most
    bool stalls = false;       // with small headroom
    int64_t room_to_grow = 0;  // above 4 m, once the present budget is filled
  };
  void learn_margins(const PressureSample& sample);
  Judgement judge(const PressureSample& sample) const;
  void shrink(const PressureSample& sample, uint64_t missing);
  void grow(const PressureSample& sample, int64_t room);

  uint64_t least_, full_;
  PressureTimes times_;
  Margins margins_;
  uint64_t budget_;
  double last_shrink_s_ = -1e9, last_grow_s_ = -1e9, calm_since_s_ = -1e9;
};

// What to tell the operator, at most one line in ten seconds while the cache shrinks, and one when
// it is whole again.
class PressureNotes {
 public:
  explicit PressureNotes(uint64_t full_bytes) : full_(full_bytes), noted_(full_bytes) {}
  std::optional<std::string> update(uint64_t budget_bytes, double now_s);

 private:
  const uint64_t full_;
  uint64_t noted_;
  double last_s_ = -1e9;
};

}  // namespace hob
