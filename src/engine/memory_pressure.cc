#include "engine/memory_pressure.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/size_parse.h"

namespace hob {
namespace {

constexpr uint64_t kMiB = 1 << 20;

// Margins: an eighth of the first headroom, within these. A plan that just fits its cgroup leaves 8
// MiB (base_process_bytes() in planner.cc), and what hob still allocates in a second is less than 4
// MiB (kernel stacks and socket buffers; all else is reserved at the start). On the machine other
// programs allocate too. At most 256 MiB: what a busy process touches in a tenth of a second.
constexpr uint64_t kLeastGroupMargin = 4 * kMiB, kLeastMachineMargin = 16 * kMiB;
constexpr uint64_t kMostMargin = 256 * kMiB;

// Of the last ten seconds. systemd-oomd kills a group whose tasks all stalled for 60 % of half a
// minute; a tenth already costs a tenth of the speed, as much as a somewhat smaller cache does.
// "Some" is true when one task of many waits, so it has to be worse.
constexpr double kStallFull = 10, kStallSome = 40;

// Below a 64th of the cache, growing is not worth a decision.
constexpr uint64_t kSmallestGrowth = 64;

bool stalls(const MemoryStall& s) {
  return s.full_percent >= kStallFull || s.some_percent >= kStallSome;
}

uint64_t unfilled(uint64_t budget, uint64_t used) { return budget - std::min(budget, used); }

uint64_t margin_of(const MemoryScope& scope, uint64_t unfilled_bytes, uint64_t least) {
  const int64_t first = scope.headroom_bytes - static_cast<int64_t>(unfilled_bytes);
  return std::clamp(static_cast<uint64_t>(std::max<int64_t>(0, first)) / 8, least, kMostMargin);
}

}  // namespace

PressureSample pressure_sample(const MemoryInfo& info, uint64_t used_bytes, double now_s) {
  PressureSample sample;
  sample.used_bytes = used_bytes;
  sample.now_s = now_s;
  if (info.available_bytes)
    sample.machine = {static_cast<int64_t>(*info.available_bytes),
                      info.stall.value_or(MemoryStall{})};
  // Without PSI of its own (v1) a group does not stall as far as we know: the machine's stalls may
  // be anybody's, while a group's headroom may be small by plan.
  if (info.cgroup_headroom_bytes)
    sample.group = {*info.cgroup_headroom_bytes, info.cgroup_stall.value_or(MemoryStall{})};
  return sample;
}

void PressureController::learn_margins(const PressureSample& s) {
  const uint64_t rest = unfilled(budget_, s.used_bytes);
  if (s.machine && !margins_.machine)
    margins_.machine = margin_of(*s.machine, rest, kLeastMachineMargin);
  if (s.group && !margins_.group) margins_.group = margin_of(*s.group, rest, kLeastGroupMargin);
}

PressureController::Judgement PressureController::judge(const PressureSample& s) const {
  Judgement j;
  j.room_to_grow = s.machine || s.group ? std::numeric_limits<int64_t>::max() : 0;
  const auto rest = static_cast<int64_t>(unfilled(budget_, s.used_bytes));
  const auto look = [&](const std::optional<MemoryScope>& scope, std::optional<uint64_t> margin) {
    if (!scope) return;
    const int64_t m = static_cast<int64_t>(*margin), headroom = scope->headroom_bytes;
    if (headroom < m) j.missing = std::max(j.missing, static_cast<uint64_t>(2 * m - headroom));
    j.stalls |= headroom < 3 * m && stalls(scope->stall);
    j.room_to_grow = std::min(j.room_to_grow, headroom - rest - 4 * m);
  };
  look(s.machine, margins_.machine);
  look(s.group, margins_.group);
  return j;
}

uint64_t PressureController::update(const PressureSample& s) {
  learn_margins(s);
  // The engine has not carried out the last order yet (a long step): what the sample says is old.
  if (s.used_bytes > budget_) return budget_;
  const Judgement j = judge(s);
  // Samples come about once in shrink_s; a little early must not skip one.
  const auto passed = [&](double since, double period) {
    return s.now_s - since >= period - 0.1 * times_.shrink_s;
  };
  if (j.missing > 0 || j.stalls || j.room_to_grow <= 0) calm_since_s_ = s.now_s;
  if (j.missing > 0 || j.stalls) {
    if (passed(last_shrink_s_, j.missing > 0 ? times_.shrink_s : times_.stall_s))
      shrink(s, j.missing);
  } else if (passed(calm_since_s_, times_.calm_s) && passed(last_grow_s_, times_.grow_s)) {
    grow(s, j.room_to_grow);
  }
  return budget_;
}

// Room that was never filled gives nothing back.
void PressureController::shrink(const PressureSample& s, uint64_t missing) {
  const uint64_t now = std::min(budget_, s.used_bytes);
  const uint64_t less = std::min(now, std::max(missing, now / 8));
  budget_ = std::min(budget_, std::max(least_, now - less));
  last_shrink_s_ = s.now_s;
}

void PressureController::grow(const PressureSample& s, int64_t room) {
  const uint64_t left = full_ - budget_;
  if (left == 0 || room <= 0) return;
  const uint64_t step =
      std::min({left, std::max<uint64_t>(1, full_ / 16), static_cast<uint64_t>(room)});
  if (step < std::min(left, full_ / kSmallestGrowth)) return;
  budget_ += step;
  last_grow_s_ = s.now_s;
}

std::optional<std::string> PressureNotes::update(uint64_t budget, double now_s) {
  constexpr double kPause = 10;
  const uint64_t before = noted_;
  if (budget == before) return std::nullopt;
  if (budget < before) {
    if (now_s - last_s_ < kPause) return std::nullopt;
    last_s_ = now_s;
    noted_ = budget;
    return fmt::format("memory is short: the expert cache shrinks from {} to {}",
                       format_size(before), format_size(budget));
  }
  noted_ = budget;
  if (budget < full_) return std::nullopt;
  return fmt::format("memory is back: the expert cache has {} again", format_size(budget));
}

}  // namespace hob
