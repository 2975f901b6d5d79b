// The checks of every model file, on the CPU backend in every ISA of this machine and with one and
// two threads.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "kernels/table.h"
#include "unit/model/model_checks_util.h"

namespace hob {
namespace {

std::vector<std::string> isas() {
  const KernelTable* tables[8];
  const int n = supported_kernels(tables);
  std::vector<std::string> names;
  for (int i = 0; i < n; i++) names.emplace_back(tables[i]->isa);
  return names;
}

using Case = std::tuple<std::string, std::string, int>;  // fixture, ISA, threads

class CpuBackendModels : public ::testing::TestWithParam<Case> {
 protected:
  std::string fixture() const { return std::get<0>(GetParam()); }
  std::string path() const { return find_logits_fixture(fixture()) + ".gguf"; }
  BackendFactory backend() const {
    return [isa = std::get<1>(GetParam()), threads = std::get<2>(GetParam())] {
      return make_cpu_backend({.n_threads = threads, .force_isa = isa});
    };
  }
};

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param) + "_" +
                     std::to_string(std::get<2>(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

TEST_P(CpuBackendModels, AgreeWithThePeer) { expect_fixture(fixture(), backend()); }

TEST_P(CpuBackendModels, SameBitsHoweverBatched) {
  expect_same_bits_however_batched(path(), backend());
}

INSTANTIATE_TEST_SUITE_P(Files, CpuBackendModels,
                         ::testing::Combine(::testing::ValuesIn(logits_fixture_names()),
                                            ::testing::ValuesIn(isas()), ::testing::Values(1, 2)),
                         case_name);

class CpuBackendMoe : public CpuBackendModels {};

TEST_P(CpuBackendMoe, SameBitsWithOneSlot) { expect_same_bits_with_one_slot(path(), backend()); }

INSTANTIATE_TEST_SUITE_P(Files, CpuBackendMoe,
                         ::testing::Combine(::testing::Values("olmoe", "qwen2moe", "qwen3moe",
                                                              "mixtral-Q4_K_M", "mixtral-Q2_K"),
                                            ::testing::ValuesIn(isas()), ::testing::Values(1, 2)),
                         case_name);

TEST(CpuBackend, PrepareWorksInPieces) {
  expect_prepare_works_in_pieces(
      [] { return make_cpu_backend({.n_threads = 1, .force_isa = ""}); });
}

}  // namespace
}  // namespace hob
