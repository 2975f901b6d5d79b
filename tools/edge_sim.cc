// edge_sim: curves of edge-assisted speculation in virtual time (src/edge/simulator.h), one table row per setting.
//
//   edge_sim [--users 1,2,4,8,16] [--rtt 0,2,15,50,100] [--step 45] [--row 0] [--server-draft 60] [--edge-draft 20]
//            [--draft 4] [--accept 0.7] [--hits 0.5] [--tokens 300]           times in ms
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "edge/simulator.h"

int main(int argc, char** argv) {
  using namespace hob;
  using namespace hob::edge;
  std::vector<int> users = {1, 2, 4, 8, 16};
  std::vector<double> rtts = {0, 2, 15, 50, 100};
  double step = 45, row = 0, server_draft = 60, edge_draft = 20, hits = 0.5;
  SimOptions o;
  o.n_tok = 300;
  CLI::App app("Edge-assisted speculation in virtual time");
  app.add_option("--users", users)->delimiter(',');
  app.add_option("--rtt", rtts)->delimiter(',');
  app.add_option("--step", step, "of the server, ms");
  app.add_option("--row", row, "each row adds, ms");
  app.add_option("--server-draft", server_draft, "a draft on the server, ms");
  app.add_option("--edge-draft", edge_draft, "a draft on an edge, ms");
  app.add_option("--draft", o.n_draft, "tokens of a draft");
  app.add_option("--accept", o.accept, "that a drafted token comes true");
  app.add_option("--hits", hits, "that a guess of a round's end is right");
  app.add_option("--tokens", o.n_tok, "of each answer");
  CLI11_PARSE(app, argc, argv);
  o.step_fixed_s = step * 1e-3;
  o.step_row_s = row * 1e-3;
  o.server_draft_s = server_draft * 1e-3;
  o.edge_draft_s = edge_draft * 1e-3;
  fmt::print("| users | RTT ms | plain tok/s | server drafts | edges, go | halves | coalesce | with guesses | its p95 gap ms |\n"
             "|---|---|---|---|---|---|---|---|---|\n");
  for (const int n : users)
    for (const double rtt : rtts) {
      o.n_users = n;
      o.one_way_s = rtt * 0.5e-3;
      const auto run = [&](SimSystem system, DraftBatching batching, double hit_rate) {
        o.system = system;
        o.batching = batching;
        o.hit_rate = hit_rate;
        return simulate(o);
      };
      const SimResult guessing = run(SimSystem::kEdge, DraftBatching::kCoalesce, hits);
      fmt::print("| {} | {} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.1f} | {:.0f} |\n", n, rtt,
                 run(SimSystem::kPlain, DraftBatching::kGo, 0).tok_s,
                 run(SimSystem::kServerOnly, DraftBatching::kGo, 0).tok_s,
                 run(SimSystem::kEdge, DraftBatching::kGo, 0).tok_s,
                 run(SimSystem::kEdge, DraftBatching::kHalves, 0).tok_s,
                 run(SimSystem::kEdge, DraftBatching::kCoalesce, 0).tok_s, guessing.tok_s,
                 guessing.gap_p95_s * 1e3);
    }
}
