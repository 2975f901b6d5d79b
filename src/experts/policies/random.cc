// Any evictable copy, each with the same probability: what a policy must beat. "random:SEED".
#include <charconv>

#include "base/error.h"
#include "experts/policies/policies.h"

namespace hob {
namespace {

class RandomPolicy final : public ExpertPolicy {
 public:
  RandomPolicy(const PolicyShape& shape, uint64_t seed)
      : n_experts_(shape.n_experts()),
        state_(seed),
        place_(static_cast<size_t>(shape.n_copies()), -1) {}
  std::string_view name() const override { return "random"; }

  void on_use(int, Precision, int64_t) override {}

  void set_evictable(int copy, bool evictable) override {
    std::vector<int32_t>& list = lists_[copy >= n_experts_];
    int32_t& place = place_[static_cast<size_t>(copy)];
    if (evictable == (place >= 0)) return;
    if (evictable) {
      place = static_cast<int32_t>(list.size());
      list.push_back(copy);
      return;
    }
    list[static_cast<size_t>(place)] = list.back();  // the last one fills the hole
    place_[static_cast<size_t>(list.back())] = place;
    list.pop_back();
    place = -1;
  }

  int choose_victim(const EvictionRequest& request) override {
    const std::vector<int32_t>& list = lists_[request.pool == Precision::kLow];
    if (list.empty()) return -1;
    return list[next() % list.size()];  // the bias of % is below 2^-50 for any cache
  }

 private:
  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  const int n_experts_;
  uint64_t state_;
  std::vector<int32_t> lists_[2];  // [precision] the evictable copies, in no order
  std::vector<int32_t> place_;     // [copy] index in its list, -1 = not in it
};

}  // namespace

std::unique_ptr<ExpertPolicy> make_random_policy(const PolicyShape& shape, std::string_view args) {
  uint64_t seed = 1;
  const char* last = args.data() + args.size();
  const auto [end, error] = std::from_chars(args.data(), last, seed);
  if (!args.empty() && (error != std::errc() || end != last))
    fail(Code::kInvalidArgument, "[experts] policy random: expected a seed, got '{}'", args);
  return std::make_unique<RandomPolicy>(shape, seed);
}

}  // namespace hob
