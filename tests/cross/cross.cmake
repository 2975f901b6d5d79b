# The kernel tests for aarch64, cross-compiled and run under qemu-user as part of an ordinary build, so that a change of the
# generic bodies cannot break NEON unseen. Wants the packages of `scripts/deps.sh cross`.
option(HOB_CROSS_TESTS "Build and run the aarch64 kernel tests, if compiler and emulator are found" ON)
if(NOT HOB_CROSS_TESTS OR CMAKE_CROSSCOMPILING OR CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  return()
endif()
find_program(HOB_AARCH64_CXX aarch64-linux-gnu-g++)
find_program(HOB_QEMU_AARCH64 NAMES qemu-aarch64-static qemu-aarch64)
find_path(HOB_GTEST_SOURCE src/gtest-all.cc PATHS /usr/src/googletest/googletest NO_DEFAULT_PATH)
find_path(HOB_FMT_HEADERS fmt/format.h)
if(NOT HOB_AARCH64_CXX OR NOT HOB_QEMU_AARCH64 OR NOT HOB_GTEST_SOURCE OR NOT HOB_FMT_HEADERS)
  message(STATUS "No aarch64 kernel tests: scripts/deps.sh cross installs the compiler, qemu and GoogleTest's sources")
  return()
endif()

# fmt and xxhash alone: the host's other headers do not belong in the include path of a cross compiler.
set(cross_dir ${CMAKE_BINARY_DIR}/cross/aarch64)
file(MAKE_DIRECTORY ${cross_dir}/include)
file(CREATE_LINK ${HOB_FMT_HEADERS}/fmt ${cross_dir}/include/fmt SYMBOLIC)
file(CREATE_LINK ${HOB_XXHASH_INCLUDE}/xxhash.h ${cross_dir}/include/xxhash.h SYMBOLIC)

include(ExternalProject)
ExternalProject_Add(cross_aarch64
  SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR}/cross
  PREFIX ${cross_dir}
  BINARY_DIR ${cross_dir}/build
  CMAKE_ARGS -DCMAKE_TOOLCHAIN_FILE=${CMAKE_SOURCE_DIR}/cmake/aarch64-linux-gnu.cmake
             -DCMAKE_CXX_COMPILER_LAUNCHER=${CMAKE_CXX_COMPILER_LAUNCHER}
             -DHOB_FMT_INCLUDE=${cross_dir}/include -DHOB_GTEST_SOURCE=${HOB_GTEST_SOURCE}
  BUILD_COMMAND ${CMAKE_COMMAND} --build <BINARY_DIR> -j 2
  BUILD_ALWAYS TRUE   # the inner build knows its own dependencies and takes no time when nothing changed
  INSTALL_COMMAND ""
  EXCLUDE_FROM_ALL FALSE)

# add_qemu_test(name cpu isa [more environment]): the CPU model decides what the program may execute (an instruction that it
# lacks is a SIGILL) and what dispatch must therefore choose.
function(add_qemu_test name cpu isa)
  add_test(NAME cross.${name} COMMAND ${HOB_QEMU_AARCH64} -cpu ${cpu} ${cross_dir}/build/test_kernels --gtest_brief=1)
  set_tests_properties(cross.${name} PROPERTIES LABELS cross TIMEOUT 600 ENVIRONMENT "HOB_EXPECT_ISA=${isa};${ARGN}")
endfunction()
# Cortex-A76: Armv8.2 with dotprod and fp16, without i8mm, as the A78AE.
add_qemu_test(kernels_neon cortex-a76 neon)
# Cortex-A57: plain Armv8.0. Nothing outside the NEON file may need more.
add_qemu_test(kernels_without_dotprod cortex-a57 scalar
              "GTEST_FILTER=Kernels.*:Kernels/Attention.*:Kernels/QuantTypes.*/Q4_K")
