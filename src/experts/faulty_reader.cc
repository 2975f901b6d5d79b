#include "experts/faulty_reader.h"

#include <cinttypes>
#include <cstdio>
#include <random>
#include <utility>

#include "base/error.h"

namespace hob {
namespace {

class FaultyReader : public AsyncReader {
 public:
  FaultyReader(std::unique_ptr<AsyncReader> inner, const FaultPlan& plan)
      : inner_(std::move(inner)), rate_(plan.rate), random_(plan.seed) {}

  std::string_view name() const override { return inner_->name(); }
  bool direct(int file) const override { return inner_->direct(file); }
  void wake() override { inner_->wake(); }

  void submit(std::span<const ReadOp> ops) override {
    passed_.clear();
    for (const ReadOp& op : ops) {
      if (next_uniform() < rate_)
        failed_.push_back({op.tag, injected(op)});
      else
        passed_.push_back(op);
    }
    if (!passed_.empty()) inner_->submit(passed_);
    if (!failed_.empty()) inner_->wake();  // nothing else may be in flight
  }

  std::vector<ReadDone> wait() override {
    std::vector<ReadDone> done = inner_->wait();
    done.insert(done.end(), failed_.begin(), failed_.end());
    failed_.clear();
    return done;
  }

 private:
  // std::uniform_real_distribution differs between libraries.
  double next_uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  static std::exception_ptr injected(const ReadOp& op) {
    return std::make_exception_ptr(
        Error(Code::kIo,
              fmt::format("[read] expected {} bytes at offset {} of file {}, got an injected fault",
                          op.n_bytes, op.offset, op.file)));
  }

  std::unique_ptr<AsyncReader> inner_;
  double rate_;
  std::mt19937_64 random_;
  std::vector<ReadOp> passed_;
  std::vector<ReadDone> failed_;
};

}  // namespace

FaultPlan parse_fault_plan(const std::string& text) {
  FaultPlan plan;
  char rest = 0;
  if (std::sscanf(text.c_str(), "%lf:%" SCNu64 "%c", &plan.rate, &plan.seed, &rest) != 2 ||
      !(plan.rate >= 0 && plan.rate <= 1))
    fail(Code::kInvalidArgument, "[faults] expected RATE:SEED with a rate of 0 to 1, got '{}'",
         text);
  return plan;
}

std::unique_ptr<AsyncReader> make_faulty_reader(std::unique_ptr<AsyncReader> inner,
                                                const FaultPlan& plan) {
  return std::make_unique<FaultyReader>(std::move(inner), plan);
}

}  // namespace hob
