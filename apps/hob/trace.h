#pragma once
// The subcommands of `hob trace`, each in its own file.
#include "command.h"

namespace hob::app {

Runner setup_trace_record(CLI::App& app);
Runner setup_trace_generate(CLI::App& app);
Runner setup_trace_simulate(CLI::App& app);
Runner setup_trace_fit(CLI::App& app);

}  // namespace hob::app
