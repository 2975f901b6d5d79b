// hob families: which models run, from the tables of families. docs/models.md holds its --markdown.
#include <fmt/format.h>

#include <algorithm>

#include "command.h"
#include "hf/hf_family.h"
#include "model/families/family.h"
#include "output.h"

namespace hob::app {
namespace {

struct Options {
  bool markdown = false, json = false;
};

// `architectures` of config.json that are read as this family.
std::vector<std::string_view> hf_names(std::string_view arch) {
  for (const HfFamily& f : hf_family_table())
    if (f.arch == arch) return f.architectures;
  return {};
}

void print_markdown() {
  write_out(
      "| GGUF architecture | models | `architectures` | attention | FFN and router |\n"
      "|---|---|---|---|---|\n");
  for (const Family& f : family_table())
    write_out(fmt::format("| {} | {} | {} | {} | {} |\n", f.arch, f.models,
                          fmt::join(hf_names(f.arch), ", "), f.attention, f.ffn));
}

void run(const Options& o) {
  if (o.markdown) return print_markdown();
  for (const Family& f : family_table()) {
    if (o.json)
      write_json({{"architecture", f.arch},
                  {"models", f.models},
                  {"hf_architectures", hf_names(f.arch)},
                  {"attention", f.attention},
                  {"ffn", f.ffn}});
    else
      write_out(
          fmt::format("{:<12}{:<40}{}\n", f.arch, f.models, fmt::join(hf_names(f.arch), ", ")));
  }
}

}  // namespace

Runner setup_families(CLI::App& app) {
  auto o = std::make_shared<Options>();
  auto* markdown = app.add_flag("--markdown", o->markdown, "the table of docs/models.md");
  app.add_flag("--json", o->json, "one JSON object per line on stdout")->excludes(markdown);
  return [o] { run(*o); };
}

}  // namespace hob::app
