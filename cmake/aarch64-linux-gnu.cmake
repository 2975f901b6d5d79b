# Toolchain: 64-bit Arm Linux from another machine, with Debian's g++-aarch64-linux-gnu; programs run under qemu-user.
# HOB_SYSROOT holds the target's libraries (scripts/arm64_sysroot.sh), for the whole program only: the kernel tests
# (tests/cross) need none.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(HOB_QEMU NAMES qemu-aarch64-static qemu-aarch64)
set(CMAKE_CROSSCOMPILING_EMULATOR ${HOB_QEMU})

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES HOB_SYSROOT)
if(HOB_SYSROOT)
  set(CMAKE_FIND_ROOT_PATH ${HOB_SYSROOT})
  set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
  set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
  set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
  set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
  # The compiler looks for headers of one architecture only in its own directories (opensslconf.h).
  set(CMAKE_CXX_FLAGS_INIT "-isystem ${HOB_SYSROOT}/usr/include/aarch64-linux-gnu")
  set(ENV{PKG_CONFIG_LIBDIR} "${HOB_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${HOB_SYSROOT}/usr/share/pkgconfig")
  set(ENV{PKG_CONFIG_SYSROOT_DIR} ${HOB_SYSROOT})
  # Shared libraries that only other shared libraries need (libbsd of libedit).
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-rpath-link,${HOB_SYSROOT}/usr/lib/aarch64-linux-gnu:${HOB_SYSROOT}/lib/aarch64-linux-gnu")
  list(APPEND CMAKE_CROSSCOMPILING_EMULATOR -L ${HOB_SYSROOT})
endif()
