#pragma once
// Measures a pack's KL table: the calibration text through every setting, against exact mode.
#include <functional>
#include <span>

#include "engine/kl_table.h"
#include "engine/model_session.h"

namespace hob {

// The text in windows of this many tokens; those before kKlFirst are context only, all later ones
// are scored. The logits of a window in exact mode are kept meanwhile: 192 x n_vocab x 4 bytes.
inline constexpr int kKlWindow = 256, kKlFirst = 64;

// A session for measure_kl(): strict, so that neighbours and cache contents upgrade nothing.
void set_kl_options(SessionOptions& options);

// At least one whole window of tokens; what is left after the last whole one is not used.
// progress(windows done, in all, over all settings); it may throw to stop. Throws what a failed
// read of an expert throws.
KlTable measure_kl(ModelSession& session, std::span<const int32_t> tokens,
                   const std::function<void(uint64_t, uint64_t)>& progress);

}  // namespace hob
