#pragma once
// The same for a Hugging Face folder: its layers' matrices as GPTQ's or AWQ's tools pack them, so
// that transformers, vLLM and hob run it.
#include <string>

#include "hf/packed_rows.h"
#include "quant/gptq_model.h"

namespace hob {

// `session`: of the folder `in`, as open_writable_model() opens it. options.out: a folder, made if
// need be; its model.safetensors and config.json are replaced, config.json last, so that what was
// not finished does not load. options.gptq.grid must be symmetric or have a zero point
// (folder_packing()); options.types, as_f32: not here. What the methods leave alone is copied as it
// is; norms and routers that AWQ's scales go into become F32. Throws Error for checkpoints that
// have several layers in one tensor, or layers that are quantised already.
QuantiseReport quantise_to_folder(ModelSession& session, const std::string& in, HfPackMethod format,
                                  std::span<const int32_t> tokens, const QuantiseOptions& options,
                                  ThreadPool& pool, const CalibratedProgress& progress);

// How such a grid is packed. Throws Error for grids that the format does not have.
HfPacking folder_packing(HfPackMethod format, const GridParams& grid);

}  // namespace hob
