#include "model/bind.h"

#include <algorithm>
#include <cctype>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "model/families/family.h"

namespace hob {
namespace {

// GGUF drops leading dimensions of 1, and some converters keep them.
Shape without_leading_ones(const Shape& shape) {
  Shape out;
  for (int i = 0; i < shape.n_dims; i++)
    if (out.n_dims > 0 || shape[i] != 1 || i == shape.n_dims - 1)
      out.dim[static_cast<size_t>(out.n_dims++)] = shape[i];
  return out;
}

BoundTensor bind_one(const TensorRule& rule, const RawTensor& raw) {
  if (without_leading_ones(rule.shape) != without_leading_ones(raw.shape))
    fail(Code::kDataLoss, "[model] {}: expected {}, file has {}", rule.name, rule.shape.str(),
         raw.shape.str());
  const int cols = static_cast<int>(rule.shape.cols());
  const int rows =
      static_cast<int>(rule.kind == TensorKind::kExperts ? rule.shape[1] : rule.shape.rows());
  return {rule.role, rule.kind, rule.layer, &raw, rows, cols};
}

// `blk.3.attn_q.order` beside `blk.3.attn_q.weight`: a name of hob's own (open_model.h).
std::string order_name(std::string_view matrix) {
  constexpr std::string_view kWeight = ".weight";
  if (!matrix.ends_with(kWeight)) return {};
  return std::string(matrix.substr(0, matrix.size() - kWeight.size())) + ".order";
}

BoundTensor bind_order(const TensorRule& rule, const RawTensor& raw) {
  Shape shape = {rule.shape.cols()};
  if (rule.kind == TensorKind::kExperts) shape = {rule.shape[0], rule.shape.cols()};
  if (raw.shape != shape || raw.dtype != DType::kF32)
    fail(Code::kDataLoss, "[model] {}: expected {} of F32, file has {} of {}", raw.name,
         shape.str(), raw.shape.str(), dtype_info(raw.dtype).name);
  return {rule.role,
          TensorKind::kOrder,
          rule.layer,
          &raw,
          static_cast<int>(shape.rows()),
          static_cast<int>(shape.cols())};
}

// `blk.3.ffn_gate.7.weight`: Mixtral files from before April 2024 hold one tensor per expert.
bool is_legacy_expert(std::string_view name) {
  for (std::string_view part : {".ffn_gate.", ".ffn_up.", ".ffn_down."}) {
    const size_t at = name.find(part);
    if (at != std::string_view::npos && at + part.size() < name.size() &&
        std::isdigit(static_cast<unsigned char>(name[at + part.size()])))
      return true;
  }
  return false;
}

void refuse_legacy_experts(std::span<const RawTensor> tensors) {
  for (const RawTensor& t : tensors)
    if (is_legacy_expert(t.name))
      fail(Code::kUnimplemented,
           "[model] {}: expected all experts of a layer in one tensor (ffn_*_exps), file has one "
           "per expert "
           "(old layout): convert the model again",
           t.name);
}

void refuse_unused(std::span<const RawTensor> tensors,
                   const std::unordered_set<const RawTensor*>& used) {
  constexpr int kMaxListed = 4;
  std::string names;
  int n_unused = 0;
  for (const RawTensor& t : tensors) {
    if (used.contains(&t)) continue;
    if (n_unused++ < kMaxListed) names += (names.empty() ? "" : ", ") + t.name;
  }
  if (n_unused > 0)
    fail(Code::kUnimplemented,
         "[model] {}{}: expected only tensors that the model uses, file has {} more", names,
         n_unused > kMaxListed ? ", ..." : "", n_unused);
}

ExpertPart expert_part(Role role) {
  if (role == Role::kExpertGate) return kGate;
  if (role == Role::kExpertUp) return kUp;
  HOB_CHECK(role == Role::kExpertDown);
  return kDown;
}

// Experts of a checkpoint: each is where its own tensors are, or is made of them.
void find_reads(const RowMaker& maker, int n_experts, ExpertMatrix& m, size_t tensor) {
  bool as_they_are = true;
  for (int e = 0; e < n_experts && as_they_are; e++) {
    const auto place = maker.place(tensor, int64_t{e} * m.rows, m.rows);
    as_they_are = place.has_value();
    if (place) m.reads.emplace_back(*place);
  }
  if (as_they_are) return;
  m.made_tensor = static_cast<int64_t>(tensor);
  m.reads.clear();
  for (int e = 0; e < n_experts; e++)
    m.reads.emplace_back(maker.ranges(tensor, int64_t{e} * m.rows, m.rows));
}

ExpertGeometry expert_geometry(const ModelSpec& spec, std::span<const BoundTensor> tensors,
                               const ModelFile& file) {
  ExpertGeometry g;
  g.files = file.files();
  g.maker = file.maker();
  g.layers.resize(static_cast<size_t>(spec.n_layers));
  for (const BoundTensor& t : tensors) {
    if (t.kind != TensorKind::kExperts) continue;
    ExpertLayer& layer = g.layers[static_cast<size_t>(t.layer)];
    layer.n_experts = spec.moe.n_experts;
    ExpertMatrix& m = layer.parts[expert_part(t.role)];
    m = {.dtype = t.raw->dtype,
         .rows = t.rows,
         .cols = t.cols,
         .file = t.raw->file,
         .offset = t.raw->offset,
         .bytes_per_expert = row_bytes(t.raw->dtype, t.cols) * static_cast<uint64_t>(t.rows),
         .reads = {}};
    if (t.raw->file == kMadeTensor)
      find_reads(*file.maker(), layer.n_experts, m, static_cast<size_t>(t.raw->offset));
  }
  return g;
}

uint64_t resident_bytes(const BoundTensor& t, const Backend& backend) {
  if (t.kind == TensorKind::kMatrix) return backend.prepared_bytes(t.raw->dtype, t.rows, t.cols);
  return static_cast<uint64_t>(t.rows) * static_cast<uint64_t>(t.cols) * sizeof(float);
}

// Which part of a layer (or the head, layer -1) uses a tensor; null: of no matter for speed.
WeightGroup* group_of(const BoundTensor& t, ModelLayout& layout) {
  if (t.role == Role::kRopeFreqs || t.role == Role::kRopeFreqsLong) return nullptr;
  if (t.role == Role::kTokenEmbd) return layout.spec.tied_embeddings ? &layout.head : nullptr;
  if (t.layer < 0) return &layout.head;
  LayerWork& layer = layout.work[static_cast<size_t>(t.layer)];
  switch (t.role) {
    case Role::kO:
    case Role::kOBias:
    case Role::kPostAttnNorm:
      return &layer.o;
    case Role::kFfnNorm:
    case Role::kFfnNormBias:
      return layout.spec.is_moe_layer(t.layer) ? &layer.router : &layer.ffn;
    case Role::kRouter:
    case Role::kRouterBias:
      return &layer.router;
    case Role::kExpertGateBias:
    case Role::kExpertUpBias:
    case Role::kExpertDownBias:
      return nullptr;  // a row per chosen expert
    case Role::kGateUp:
    case Role::kPostFfnNorm:
    case Role::kGate:
    case Role::kUp:
    case Role::kDown:
    case Role::kSharedRouter:
    case Role::kSharedGate:
    case Role::kSharedUp:
    case Role::kSharedDown:
      return &layer.ffn;
    case Role::kExpertGate:
    case Role::kExpertUp:
    case Role::kExpertDown:
      return &layer.expert;
    default:
      return &layer.qkv;
  }
}

void add_work(const BoundTensor& t, const Backend& backend, ModelLayout& layout) {
  WeightGroup* group = group_of(t, layout);
  if (!group) return;
  group->bytes += t.kind == TensorKind::kExperts
                      ? backend.prepared_bytes(t.raw->dtype, t.rows, t.cols)
                      : resident_bytes(t, backend);
  if (t.kind == TensorKind::kVector) return;
  (dtype_info(t.raw->dtype).quantised() ? group->n_quantised : group->n_float) +=
      static_cast<uint64_t>(t.rows) * static_cast<uint64_t>(t.cols);
}

}  // namespace

ModelSpec read_spec(const Metadata& metadata, std::span<const RawTensor> tensors, Compat compat) {
  const std::string arch = metadata.get_string("general.architecture");
  const Family& family = find_family(arch);
  return family.read_spec(SpecReader(metadata, tensors, arch, compat));
}

std::vector<BoundTensor> bind_tensors(const ModelSpec& spec, std::span<const RawTensor> tensors) {
  refuse_legacy_experts(tensors);
  std::unordered_map<std::string_view, const RawTensor*> by_name;
  for (const RawTensor& t : tensors) by_name.emplace(t.name, &t);

  std::vector<BoundTensor> bound;
  std::unordered_set<const RawTensor*> used;
  for (const TensorRule& rule : find_family(spec.family).rules(spec)) {
    const auto found = by_name.find(rule.name);
    if (found == by_name.end()) {
      if (rule.optional) continue;
      fail(Code::kDataLoss, "[model] {}: expected {}, file has none", rule.name, rule.shape.str());
    }
    bound.push_back(bind_one(rule, *found->second));
    used.insert(found->second);
    if (rule.kind == TensorKind::kVector || rule.layer < 0) continue;
    const auto order = by_name.find(order_name(rule.name));
    if (order == by_name.end()) continue;
    bound.push_back(bind_order(rule, *order->second));
    used.insert(order->second);
  }
  refuse_unused(tensors, used);
  return bound;
}

DensePlan plan_dense(std::span<const BoundTensor> tensors, const Backend& backend) {
  constexpr uint64_t kAlign = 64;  // Backend::prepare's demand
  DensePlan plan;
  for (const BoundTensor& t : tensors) {
    plan.offsets.push_back(plan.n_bytes);
    if (t.kind == TensorKind::kExperts) continue;
    plan.n_bytes += (resident_bytes(t, backend) + kAlign - 1) / kAlign * kAlign;
  }
  return plan;
}

ModelLayout bind_layout(const ModelFile& file, const Backend& backend, Compat compat) {
  ModelLayout layout;
  layout.spec = read_spec(file.metadata(), file.tensors(), compat);
  const std::vector<BoundTensor> bound = bind_tensors(layout.spec, file.tensors());
  layout.dense_bytes = plan_dense(bound, backend).n_bytes;
  layout.dense_read_bytes = layout.dense_bytes;
  for (const BoundTensor& t : bound)  // of an untied embedding a token reads one row
    if (t.role == Role::kTokenEmbd && !layout.spec.tied_embeddings)
      layout.dense_read_bytes -= resident_bytes(t, backend);
  layout.experts = expert_geometry(layout.spec, bound, file);
  layout.work.resize(static_cast<size_t>(layout.spec.n_layers));
  for (const BoundTensor& t : bound)
    t.kind == TensorKind::kOrder ? void(layout.has_orders = true) : add_work(t, backend, layout);
  return layout;
}

KvGeometry ModelLayout::kv(KvType type) const {
  const AttnSpec& a = spec.attn;
  // A latent is K and V at once: one vector per token and layer.
  const KvLayerGeometry layer = a.d_latent > 0 ? KvLayerGeometry{1, a.d_latent + spec.rope.d_rot, 0}
                                               : KvLayerGeometry{a.n_kv_heads, a.d_k, a.d_v};
  return {std::vector<KvLayerGeometry>(static_cast<size_t>(spec.n_layers), layer), type};
}

}  // namespace hob
