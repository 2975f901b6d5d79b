#pragma once
// What must hold for every model file on every backend. Each check reports through GoogleTest.
#include <string>
#include <vector>

#include "unit/model/model_harness_util.h"

namespace hob {

// The logits fixtures of the supported families: those in the repository, and of the rest what can
// be found.
std::vector<std::string> logits_fixture_names();
// Path without suffix in tests/data/model, $HOB_FIXTURES or ../shared/fixtures/logits beside the
// checkout; "" if nowhere.
std::string find_logits_fixture(const std::string& name);

// The bars of the fixtures' README: F32 files within 2e-3 and the same arg-max everywhere; other
// types mean KL <= 8e-3 and the same arg-max in 90 % of the positions.
void expect_fixture(const std::string& name, const BackendFactory& backend);

// One token per step, odd chunks, neighbours in the same step, logits of the last position only,
// both KV types for themselves: the same bits.
void expect_same_bits_however_batched(const std::string& model_path, const BackendFactory& backend);

// One slot for all experts against all experts resident: the same bits.
void expect_same_bits_with_one_slot(const std::string& model_path, const BackendFactory& backend);

// Matrices prepared in pieces of kPieceRows (as the loader does) against the whole matrix: the same
// bytes.
void expect_prepare_works_in_pieces(const BackendFactory& backend);

}  // namespace hob
