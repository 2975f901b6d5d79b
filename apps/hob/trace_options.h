#pragma once
// What `hob trace replay` and `hob trace fit` share: traces, precision and cache sizes.
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "engine/trace_sim.h"

namespace hob::app {

struct ReplayArguments {
  std::vector<std::string> files;
  std::string cache = "5%,10%,20%,30%,50%";
  std::string precision = "exact";
  std::string warmup = "chunk";
  std::string split = "100:0";  // high:low
  double t1 = -1, t2 = -1;      // < 0: quantiles
  double q1 = 67, q2 = 97;      // percent
  double low_ratio = 0.58;
  std::string expert_bytes;  // empty: as the trace says
  bool json = false;
  bool quiet = false;
};

// Returns the positional option for the files.
CLI::Option* add_replay_options(CLI::App& app, ReplayArguments& arguments);

// Throw UsageError.
ReplayOptions replay_options(const ReplayArguments& arguments);
std::vector<Replay> read_replays(const ReplayArguments& arguments);  // one per file
// One budget per size; sizes are bytes or, with %, shares of all experts.
std::vector<SimBudget> budgets(const ReplayArguments& arguments, const Replay& replay);

// "lru,hobbit:0.4,0.2,0.2,0.2,ewma" -> three; a part that begins with no letter belongs to the one
// before.
std::vector<std::string> split_policies(const std::string& list);

}  // namespace hob::app
