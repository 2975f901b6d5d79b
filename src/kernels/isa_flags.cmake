# One compiled file per ISA. -O3 for the vector ones; the flags of an ISA apply to its own file only, everything else is
# built for the baseline of the target.
set(isa_dir src/kernels/cpu)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(avx2_flags "-O3;-mavx2;-mfma;-mf16c")
  # g++ 12 warns about uninitialised values inside its own AVX-512 header.
  set(avx512_flags "-O3;-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mfma;-mf16c;-mavx2;-mprefer-vector-width=512;-Wno-uninitialized;-Wno-maybe-uninitialized")
  if(HOB_SANITIZE)  # -O1, and UBSan for the scalar twin alone: intrinsics have no undefined arithmetic to find
    string(REPLACE "-O3" "-O1" avx2_flags "${avx2_flags};-fno-sanitize=undefined")
    string(REPLACE "-O3" "-O1" avx512_flags "${avx512_flags};-fno-sanitize=undefined")
  endif()
  set_source_files_properties(${isa_dir}/avx2/tu.cc PROPERTIES COMPILE_OPTIONS "${avx2_flags}")
  set_source_files_properties(${isa_dir}/avx512/tu.cc PROPERTIES COMPILE_OPTIONS "${avx512_flags}")
else()
  set_source_files_properties(${isa_dir}/avx2/tu.cc ${isa_dir}/avx512/tu.cc PROPERTIES HEADER_FILE_ONLY TRUE)
endif()
if(HOB_SANITIZE)
  set_source_files_properties(${isa_dir}/scalar/tu.cc PROPERTIES COMPILE_OPTIONS "-O1")
else()
  set_source_files_properties(${isa_dir}/scalar/tu.cc PROPERTIES COMPILE_OPTIONS "-O2")
endif()
