// hob tokenize MODEL [--decode] [--no-special]: stdin -> ids on stdout, comma separated, and back.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>

#include "base/error.h"
#include "command.h"
#include "hf/open_model.h"
#include "options.h"
#include "output.h"
#include "token_list.h"

namespace hob::app {
namespace {

struct Options {
  CommonOptions common;
  bool decode = false;
  bool no_special = false;
};

void decode(const Options& o, const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = parse_token_list(read_stdin());
  for (size_t i = 0; i < ids.size(); i++)
    if (ids[i] < 0 || ids[i] >= tokenizer.n_vocab())
      fail(Code::kInvalidArgument, "[tokens] expected ids in [0, {}), token {} is {}",
           tokenizer.n_vocab(), i, ids[i]);
  const std::string text = tokenizer.decode(ids, /*special=*/!o.no_special);
  if (o.common.json)
    write_json({{"text", text}, {"n_tok", ids.size()}});
  else
    write_out(text);
}

void encode(const Options& o, const Tokenizer& tokenizer) {
  const std::vector<TokenId> ids = tokenizer.encode(
      read_stdin(), {.add_special = !o.no_special, .parse_special = !o.no_special});
  if (o.common.json)
    write_json({{"tokens", ids}, {"n_tok", ids.size()}});
  else
    write_out(fmt::format("{}\n", fmt::join(ids, ",")));
}

void run(const Options& o) {
  const ModelFile file = open_model_file(o.common.model);
  const std::unique_ptr<Tokenizer> tokenizer = Tokenizer::from_gguf(file.metadata());
  o.decode ? decode(o, *tokenizer) : encode(o, *tokenizer);
}

}  // namespace

Runner setup_tokenize(CLI::App& app) {
  auto o = std::make_shared<Options>();
  add_model_argument(app, o->common);
  app.add_flag("--decode", o->decode, "ids on stdin, text on stdout");
  app.add_flag("--no-special", o->no_special,
               "no BOS/EOS; control tokens in the text are plain text");
  add_output_options(app, o->common);
  return [o] { run(*o); };
}

}  // namespace hob::app
