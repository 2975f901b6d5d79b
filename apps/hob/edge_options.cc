#include "edge_options.h"

#include <fstream>
#include <map>

#include "base/error.h"
#include "command.h"
#include "draft_options.h"
#include "edge_port.h"

namespace hob::app {
namespace {

const std::map<std::string, edge::EdgeMode> kModes = {{"auto", edge::EdgeMode::kMeasured},
                                                      {"tree", edge::EdgeMode::kTree},
                                                      {"stream", edge::EdgeMode::kStream}};

// Whoever has words of his own need not wait for long.
constexpr int kPatience = 300, kPatienceAlone = 10;

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line))
    if (!line.empty() && line[0] != '#') return line;
  fail(Code::kNotFound, "[edge] --server-key-file: expected a key, {} has none", path);
}

void add_server_options(CLI::App& app, EdgeOptions& o) {
  app.add_option("--server", o.server, "HOST:PORT of a `hob serve --edge-port PORT`")->required();
  app.add_flag("--tls", o.tls, "speak TLS with the server");
  app.add_option("--server-ca", o.server_ca, "PEM: whom to trust; default: the system's list");
  app.add_option("--server-name", o.server_name, "the name in the server's certificate");
  app.add_option("--client-cert", o.client_cert, "PEM: shows the server who we are");
  app.add_option("--client-key", o.client_key, "its private key, PEM");
  app.add_option("--server-key-file", o.key_file, "a file with the API key for the server");
  app.add_option("--pad", o.pad, "bytes: frames grow to multiples, so that sizes tell less")
      ->check(CLI::Range(0, 4096));
}

}  // namespace

void add_edge_options(CLI::App& app, EdgeOptions& o) {
  add_server_options(app, o);
  app.add_option("--draft", o.draft,
                 "a small model of the server's vocabulary; ngram; or both: ngram+MODEL")
      ->required();
  app.add_option("--tokenizer", o.tokenizer, "with --draft ngram: a GGUF with the vocabulary");
  app.add_option("--draft-max", o.max_nodes, "most tokens of a draft")->check(CLI::Range(1, 64));
  app.add_flag("--draft-always", o.always, "send whole drafts, also where that is slower")
      ->group("");
  app.add_option("--draft-floor", o.pass_floor_ms,
                 "ms that a pass of the draft model takes at least")
      ->group("")
      ->check(number_in(0, 1e4));
  app.add_option("--guesses", o.max_guesses,
                 "likely ends of a round that are sent ahead of its verdict; 0 = none")
      ->check(CLI::Range(0, 16));
  app.add_option("--mode", o.mode,
                 "tree: drafts from here, verified there; stream: the server writes alone; auto: "
                 "what is faster")
      ->check(CLI::IsMember(kModes));
  app.add_option("--offline", o.offline,
                 "without the server. wait: nothing is said; draft: the draft model goes on "
                 "alone, and the server, once it is back, verifies what it said")
      ->check(CLI::IsMember({"wait", "draft"}));
  app.add_option("--patience", o.patience_s,
                 "seconds without the server before an answer fails (300), or the draft model's "
                 "words stand (10)")
      ->check(CLI::Range(1, 86400));
  app.add_option("--max-answers", o.max_answers, "answers that are written together")
      ->check(CLI::Range(1, 1024));
  app.add_option("--memory", o.common.memory, "of the draft model");
  app.add_option("--threads", o.common.threads, "of the draft model; 0 = all cores");
  add_http_options(app, o.http);
  add_output_options(app, o.common);
}

void check_edge_options(EdgeOptions& o) {
  check_http_options(o.http);
  const DraftSource source(o.draft);
  if (source.model.empty() && o.tokenizer.empty())
    throw UsageError("[usage] --draft ngram: expected --tokenizer MODEL.gguf for its vocabulary");
  if (source.model.empty() && o.writes_alone())
    throw UsageError("[usage] --offline draft: expected a model for --draft, n-grams say nothing");
  if (o.client_cert.empty() != o.client_key.empty())
    throw UsageError("[usage] expected --client-cert and --client-key together, got one of them");
  o.tls = o.tls || !o.server_ca.empty() || !o.client_cert.empty();
  if (o.patience_s == 0) o.patience_s = o.writes_alone() ? kPatienceAlone : kPatience;
}

edge::GrpcLinkOptions link_options(const EdgeOptions& o) {
  edge::GrpcLinkOptions l;
  l.address = o.server;
  l.tls = o.tls;
  l.server_name = o.server_name;
  l.pad_bytes = o.pad;
  if (!o.server_ca.empty()) l.server_ca = read_text_file(o.server_ca, "tls");
  if (!o.client_cert.empty()) {
    l.certificate = read_text_file(o.client_cert, "tls");
    l.key = read_text_file(o.client_key, "tls");
  }
  if (!o.key_file.empty()) {
    l.api_key = first_line(o.key_file);
    const bool local = o.server.starts_with("127.") || o.server.starts_with("localhost:") ||
                       o.server.starts_with("[::1]");
    if (!o.tls && !local)
      throw UsageError("[usage] --server-key-file: a key wants TLS on its way, see --tls");
  }
  return l;
}

edge::EdgeMode edge_mode(const EdgeOptions& o) { return kModes.at(o.mode); }

}  // namespace hob::app
