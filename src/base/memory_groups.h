#pragma once
// Which memory control groups bind this process. Linux, both versions of cgroups.
#include <string>
#include <vector>

namespace hob {

struct MemoryPaths;

struct MemoryGroup {
  std::string folder;
  bool v2 = true;
};

// The process's own groups and their parents, each before its parent: the limit of a parent binds
// its children. From self/cgroup and self/mountinfo; without the latter from the places where
// cgroups are by convention. Folders need not exist. Whatever cannot be parsed is left out.
std::vector<MemoryGroup> memory_groups(const MemoryPaths& paths);

}  // namespace hob
