#pragma once
// What `hob edge` is told.
#include <string>

#include "edge/edge_loop.h"
#include "edge/grpc_link.h"
#include "http_options.h"
#include "options.h"

namespace hob::app {

struct EdgeOptions {
  CommonOptions common;  // of the draft model
  HttpOptions http;
  std::string draft, tokenizer, server;
  bool tls = false;
  std::string server_ca, server_name, client_cert, client_key, key_file;
  bool always = false;       // whole drafts: for measurements
  double pass_floor_ms = 0;  // for measurements
  std::string mode = "auto", offline = "wait";
  int max_guesses = 16;
  int max_nodes = 16, max_answers = 8, pad = 0;
  int patience_s = 0;  // 0 = by `offline`

  bool writes_alone() const { return offline == "draft"; }
};

void add_edge_options(CLI::App& app, EdgeOptions& options);
// Throws UsageError; fills in what follows from others.
void check_edge_options(EdgeOptions& options);

edge::GrpcLinkOptions link_options(const EdgeOptions& options);
edge::EdgeMode edge_mode(const EdgeOptions& options);

}  // namespace hob::app
