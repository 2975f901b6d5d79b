// Rules + geometry + what the files hold -> the list of tensors.
#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "format/byte_source.h"
#include "hf/hf_tensor.h"

namespace hob {
namespace {

// Multimodal checkpoints put the language part below a name of its own.
std::string canonical(std::string name) {
  constexpr std::string_view kPrefix = "language_model.";
  if (const size_t at = name.find(kPrefix); at == 0 || (at != name.npos && name[at - 1] == '.'))
    name.erase(at, kPrefix.size());
  return name;
}

// Buffers that runtimes compute, and the parts of multimodal models that are not language.
bool is_ignorable(std::string_view name) {
  for (const std::string_view end : {".rotary_emb.inv_freq", ".attention.masked_bias"})
    if (name.ends_with(end)) return true;
  for (const std::string_view start : {"vision_tower.", "multi_modal_projector.",
                                       "model.vision_tower.", "model.multi_modal_projector."})
    if (name.starts_with(start)) return true;
  return false;
}

std::string fill_in(std::string_view pattern, int layer, int expert) {
  std::string name(pattern);
  const auto replace = [&](std::string_view what, int with) {
    if (const size_t at = name.find(what); at != name.npos)
      name.replace(at, what.size(), std::to_string(with));
  };
  replace("{L}", layer);
  replace("{E}", expert);
  return name;
}

bool has(std::string_view pattern, std::string_view what) {
  return pattern.find(what) != pattern.npos;
}

bool must_be_f32(std::string_view name, const Shape& shape) {
  return shape.n_dims < 2 || !name.ends_with(".weight") || name.ends_with("_norm.weight") ||
         name.ends_with(".ffn_gate_inp.weight") || name.ends_with(".ffn_gate_inp_shexp.weight");
}

DType own_type(const SafeTensor& t) {
  if (const std::optional<DType> type = float_dtype(t.dtype)) return *type;
  fail(Code::kUnimplemented, "[hf] {}: expected F32, F16 or BF16, file has {}", printable(t.name),
       name_of(t.dtype));
}

DType choose_type(const HfTensor& out, HfOutType type) {
  if (must_be_f32(out.name, out.shape)) return DType::kF32;
  const bool blocks = out.packing && out.map.column_items == 0;  // transposed ones are taken apart
  const DType own = blocks        ? packed_type(*out.packing)
                    : out.packing ? DType::kF32
                                  : own_type(*out.sources.front().data);
  switch (type) {
    case HfOutType::kAuto:
      return own;
    case HfOutType::kF32:
      return DType::kF32;
    case HfOutType::kF16:
      return DType::kF16;
    case HfOutType::kBF16:
      return DType::kBF16;
    case HfOutType::kQ8_0:  // where rows are no whole number of blocks: what llama.cpp takes
      return out.shape.cols() % dtype_info(DType::kQ8_0).block == 0 ? DType::kQ8_0 : DType::kF16;
  }
  HOB_CHECK(false);
}

class Planner {
 public:
  Planner(const HfGeometry& geometry, const SafetensorsSet& set, HfOutType out_type,
          const std::optional<HfPacking>& packing)
      : g_(geometry), set_(set), out_type_(out_type), packing_(packing) {
    for (const SafeTensor& t : set.tensors())
      if (!by_name_.emplace(canonical(t.name), &t).second)
        fail(Code::kDataLoss, "[hf] {}: expected once, the checkpoint has it twice",
             printable(canonical(t.name)));
  }

  std::vector<HfTensor> plan(const HfRules& rules) {
    for (const HfRule& rule : rules)
      if (!has(rule.gguf, "{L}")) apply(rule, -1);
    for (int layer = 0; layer < g_.n_layers; layer++)
      for (const HfRule& rule : rules)
        if (has(rule.gguf, "{L}") && applies(rule.when, layer)) apply(rule, layer);
    for (const auto& [gguf, hf] : missing_)
      fail(Code::kDataLoss, "[hf] {}: expected in the checkpoint, there is none", hf);
    refuse_unused();
    return std::move(out_);
  }

 private:
  bool applies(HfWhen when, int layer) const {
    const bool moe = layer >= g_.n_leading_dense;
    return when == HfWhen::kMoe ? moe : when == HfWhen::kDense ? !moe : true;
  }

  const SafeTensor* find(const std::string& name) const {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? nullptr : it->second;
  }

  void apply(const HfRule& rule, int layer) {
    const std::string name = fill_in(rule.gguf, layer, 0);
    if (done_.contains(name)) return;
    std::vector<HfSource> sources = find_sources(rule, layer);
    if (rule.when == HfWhen::kHead && g_.tied) return;  // a copy of the embedding
    if (sources.empty()) {
      const bool optional =
          rule.when == HfWhen::kOptional || (rule.when == HfWhen::kHead && !g_.needs_head);
      if (!optional) missing_.emplace(name, fill_in(rule.hf, layer, 0) + suffix(rule));
      return;
    }
    for (const HfSource& s : sources) is_packed(s) ? check_packed(rule, s) : check(rule, s);
    check_same_type(sources);
    out_.push_back(make(rule, name, std::move(sources)));
    if (std::optional<HfTensor> order = find_order(out_.back(), set_))
      out_.push_back(std::move(*order));
    done_.insert(name);
    missing_.erase(name);
  }

  static std::string suffix(const HfRule& rule) { return rule.mxfp4 ? "_blocks" : ""; }

  // All or none: with expert 0, every expert must be there.
  std::vector<HfSource> find_sources(const HfRule& rule, int layer) {
    const int n = has(rule.hf, "{E}") ? g_.n_experts : 1;
    std::vector<HfSource> sources;
    for (int expert = 0; expert < n; expert++) {
      const std::string name = fill_in(rule.hf, layer, expert);
      HfSource s;
      s.data = take(name + suffix(rule));
      if (rule.mxfp4) s.scales = take(name + "_scales");
      if (!s.data) {
        const std::optional<HfSource> packed = take_packed(name);
        if (packed) sources.push_back(*packed);
        if (packed) continue;
        if (expert > 0) refuse_missing_expert(name);
        return {};
      }
      if (rule.mxfp4 && !s.scales)
        fail(Code::kDataLoss, "[hf] {}_scales: expected beside {}_blocks, there is none", name,
             name);
      sources.push_back(s);
    }
    return sources;
  }

  const SafeTensor* take(const std::string& name) {
    const SafeTensor* t = find(name);
    if (t) used_.insert(t);
    return t;
  }

  [[noreturn]] void refuse_missing_expert(const std::string& name) const {
    fail(Code::kDataLoss, "[hf] {}: expected {} experts in the layer, this one is missing", name,
         g_.n_experts);
  }

  // The arrays that stand for `X.weight` in a quantised layer.
  std::optional<HfSource> take_packed(const std::string& weight) {
    constexpr std::string_view kWeight = ".weight";
    if (!packing_ || !weight.ends_with(kWeight)) return std::nullopt;
    const std::string base = weight.substr(0, weight.size() - kWeight.size());
    const bool compressed = packing_->method == HfPackMethod::kCompressedTensors;
    HfSource s;
    s.data = take(base + (compressed ? ".weight_packed" : ".qweight"));
    if (!s.data) return std::nullopt;
    s.scales = take_beside(base, compressed ? ".weight_scale" : ".scales");
    if (packing_->has_zeros)
      s.zeros = take_beside(base, compressed ? ".weight_zero_point" : ".qzeros");
    s.groups = take(base + (compressed ? ".weight_g_idx" : ".g_idx"));
    if (compressed) take(base + ".weight_shape");
    return s;
  }
  const SafeTensor* take_beside(const std::string& base, const std::string& what) {
    const SafeTensor* t = take(base + what);
    if (!t)
      fail(Code::kDataLoss, "[hf] {}{}: expected beside the layer's codes, there is none", base,
           what);
    return t;
  }
  bool is_packed(const HfSource& s) const { return packing_ && s.data->dtype == SafeType::kI32; }

  std::vector<int64_t> expected_shape(const HfRule& rule) const {
    std::vector<int64_t> dims;
    for (const HfDim d : rule.shape)
      if (d != HfDim::kNone) dims.push_back(g_[d]);
    return dims;
  }

  void check_shape(const SafeTensor& t, const std::vector<int64_t>& expected) const {
    const bool empty = std::ranges::find(t.shape, 0) != t.shape.end();
    if (t.shape != expected || empty)
      fail(Code::kDataLoss, "[hf] {}: expected [{}] (config.json), file has {}", printable(t.name),
           fmt::join(expected, ","), t.shape_text());
  }

  void check_same_type(const std::vector<HfSource>& sources) const {
    const SafeTensor& first = *sources.front().data;
    for (const HfSource& s : sources)
      if (s.data->dtype != first.dtype)
        fail(Code::kUnimplemented, "[hf] {}: expected {} as expert 0, file has {}",
             printable(s.data->name), name_of(first.dtype), name_of(s.data->dtype));
  }

  void check_packed(const HfRule& rule, const HfSource& source) const;

  void check(const HfRule& rule, const HfSource& source) const {
    std::vector<int64_t> expected = expected_shape(rule);
    check_shape(*source.data, expected);
    if (!rule.mxfp4) return static_cast<void>(own_type(*source.data));
    expected.pop_back();
    check_shape(*source.scales, expected);
    for (const SafeTensor* t : {source.data, source.scales})
      if (t->dtype != SafeType::kU8)
        fail(Code::kUnimplemented, "[hf] {}: expected U8, file has {}", printable(t->name),
             name_of(t->dtype));
  }

  HfTensor make(const HfRule& rule, const std::string& name, std::vector<HfSource> sources) const;
  HfItemMap make_map(const HfRule& rule, int64_t n_items) const;
  bool is_zero_bias(const SafeTensor& t) const;
  void refuse_unused() const;

  const HfGeometry& g_;
  const SafetensorsSet& set_;
  HfOutType out_type_;
  const std::optional<HfPacking> packing_;
  std::unordered_map<std::string, const SafeTensor*> by_name_;
  std::unordered_set<const SafeTensor*> used_;
  std::unordered_set<std::string> done_;        // GGUF names
  std::map<std::string, std::string> missing_;  // GGUF name -> the source it should come from
  std::vector<HfTensor> out_;
};

// The arrays' shapes follow from the layer's: PackedLinear.
void Planner::check_packed(const HfRule& rule, const HfSource& s) const {
  const HfPacking& p = *packing_;
  const std::vector<int64_t> dims = expected_shape(rule);
  const auto refuse = [&](std::string_view expected) {
    fail(Code::kUnimplemented, "[hf] {}: expected {}, it is a layer [{}]", printable(s.data->name),
         expected, fmt::join(dims, ","));
  };
  if (dims.size() != 2 || rule.mxfp4 || rule.transposed || rule.shift != 0)
    refuse("no quantised tensor of this kind");
  const int64_t n_out = dims[0], n_in = dims[1];
  if (n_in % 32 != 0 || n_in % p.group_of(n_in) != 0)
    refuse("inputs that are a multiple of 32 and of the group");
  if (n_out * p.bits % 32 != 0 && p.has_zeros) refuse("outputs that fill words of 32 bits");
  const PackedShapes shapes = packed_shapes(p, n_out, n_in);
  check_shape(*s.data, shapes.codes);
  check_shape(*s.scales, shapes.scales);
  if (s.zeros) check_shape(*s.zeros, shapes.zeros);
  if (s.groups) check_shape(*s.groups, {n_in});
  for (const SafeTensor* t : {s.data, s.zeros, s.groups})
    if (t && t->dtype != SafeType::kI32)
      fail(Code::kUnimplemented, "[hf] {}: expected I32, file has {}", printable(t->name),
           name_of(t->dtype));
  own_type(*s.scales);  // a float type
}

HfItemMap Planner::make_map(const HfRule& rule, int64_t n_items) const {
  HfItemMap m;
  switch (rule.rows) {
    case HfRows::kAll:
      m.pitch = m.taken = n_items;
      break;
    case HfRows::kRotary:
      m.pitch = m.taken = g_[HfDim::kHead];
      m.rotary = true;
      break;
    case HfRows::kFirstHalf:
    case HfRows::kSecondHalf:
      m.pitch = n_items;
      m.taken = n_items / 2;
      m.first = rule.rows == HfRows::kFirstHalf ? 0 : m.taken;
      break;
    case HfRows::kEven:
    case HfRows::kOdd:
      m.pitch = n_items;
      m.taken = n_items / 2;
      m.first = rule.rows == HfRows::kOdd;
      m.stride = 2;
      break;
    case HfRows::kMlaKeys:
      m.pitch = g_.d_nope + g_.d_v;
      m.taken = g_[HfDim::kKvRank];
      m.column_items = g_.d_nope;
      break;
    case HfRows::kMlaValues:
      m.pitch = g_.d_nope + g_.d_v;
      m.taken = g_.d_v;
      m.first = g_.d_nope;
      break;
  }
  return m;
}

// The source is a stack of slabs of `n_items` items; `d_source` numbers each.
HfTensor Planner::make(const HfRule& rule, const std::string& name,
                       std::vector<HfSource> sources) const {
  std::vector<int64_t> dims = expected_shape(rule);
  if (rule.mxfp4) {
    dims.pop_back();
    dims.back() *= dtype_info(DType::kMXFP4).block;
  }
  HfTensor t;
  t.name = name;
  const bool bias = name.ends_with(".bias");
  const bool mla = rule.rows == HfRows::kMlaKeys || rule.rows == HfRows::kMlaValues;
  t.d_source = bias ? 1 : dims.back();
  const size_t axis = bias || dims.size() == 1 ? dims.size() - 1 : dims.size() - 2;
  const int64_t n_items = dims[axis];
  t.map = make_map(rule, rule.transposed ? dims.back() : n_items);
  if (rule.transposed) {
    t.map.column_items = t.map.pitch = n_items;
    dims[axis] = t.map.taken;
    dims.back() = n_items;
  } else if (mla) {
    const int64_t d_row = t.map.column_items ? t.map.column_items : dims.back();
    dims = {n_items / t.map.pitch, t.map.taken, d_row};
  } else if (rule.rows != HfRows::kAll) {
    dims[axis] = n_items / t.map.pitch * t.map.taken;
  } else if (dims.size() == 1) {
    t.map.pitch = t.map.taken = bias ? n_items : 1;
  }
  if (has(rule.hf, "{E}")) dims.insert(dims.begin(), static_cast<int64_t>(sources.size()));
  for (const int64_t d : dims) t.shape.dim[static_cast<size_t>(t.shape.n_dims++)] = d;
  if (is_packed(sources.front())) {
    t.packing = packing_;
    t.packed_rows = n_items;
  }
  t.sources = std::move(sources);
  t.shift = rule.shift;
  t.dtype = rule.mxfp4 ? DType::kMXFP4 : choose_type(t, out_type_);
  return t;
}

// GPTQ's tools write a bias of zeros beside layers that have none.
bool Planner::is_zero_bias(const SafeTensor& t) const {
  constexpr uint64_t kMost = 1 << 20;
  constexpr std::string_view kBias = ".bias";
  if (!packing_ || !t.name.ends_with(kBias) || t.n_bytes > kMost) return false;
  if (!find(canonical(t.name.substr(0, t.name.size() - kBias.size()) + ".qweight"))) return false;
  std::vector<std::byte> bytes(static_cast<size_t>(t.n_bytes));
  set_.read(t, 0, bytes);
  return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

void Planner::refuse_unused() const {
  constexpr int kMaxListed = 4;
  std::string names;
  int n_unused = 0;
  for (const SafeTensor& t : set_.tensors()) {
    if (used_.contains(&t) || is_ignorable(t.name) || is_zero_bias(t)) continue;
    if (n_unused++ < kMaxListed) names += (names.empty() ? "" : ", ") + printable(t.name);
  }
  if (n_unused > 0)
    fail(Code::kUnimplemented,
         "[hf] {}{}: expected only tensors that the model uses, the checkpoint has {} more", names,
         n_unused > kMaxListed ? ", ..." : "", n_unused);
}

}  // namespace

std::vector<HfTensor> plan_hf_tensors(const HfGeometry& geometry, const HfRules& rules,
                                      const SafetensorsSet& set, HfOutType out_type,
                                      const std::optional<HfPacking>& packing) {
  return Planner(geometry, set, out_type, packing).plan(rules);
}

std::optional<DType> float_dtype(SafeType type) {
  switch (type) {
    case SafeType::kF32:
      return DType::kF32;
    case SafeType::kF16:
      return DType::kF16;
    case SafeType::kBF16:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

HfTensor computed_tensor(const HfComputed& computed) {
  HfTensor t;
  t.name = computed.name;
  t.dtype = DType::kF32;
  t.shape = {static_cast<int64_t>(computed.values.size())};
  t.values = computed.values;
  return t;
}

}  // namespace hob
