/* Does this CPU, and this operating system, have what the generated code needs? Asked before any of it runs. */
#include <stdio.h>
#include <string.h>

#include "internal.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum { L1C, L1D, L7B, L7C, L7D, L71A, L71D, E1C, E1D, E8B, LD1A, L14B, L19B, REGISTERS };
enum { ALWAYS = 0, NEEDS_YMM = 6, NEEDS_ZMM = 0xE6, NEEDS_TILE = 0x60000 }; /* bits of XCR0 */

typedef struct planish_feature {
  const char *name;
  uint8_t word, bit;
  uint32_t state;
} planish_feature;

/* LLVM's names. Source: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E. */
static const planish_feature FEATURES[] = {
    {"sse3", L1C, 0, 0}, {"pclmul", L1C, 1, 0}, {"ssse3", L1C, 9, 0}, {"cx16", L1C, 13, 0}, {"sse4.1", L1C, 19, 0},
    {"sse4.2", L1C, 20, 0}, {"crc32", L1C, 20, 0}, {"movbe", L1C, 22, 0}, {"popcnt", L1C, 23, 0}, {"aes", L1C, 25, 0},
    {"xsave", L1C, 26, 0}, {"rdrnd", L1C, 30, 0}, {"avx", L1C, 28, NEEDS_YMM}, {"fma", L1C, 12, NEEDS_YMM},
    {"f16c", L1C, 29, NEEDS_YMM},
    {"cx8", L1D, 8, 0}, {"cmov", L1D, 15, 0}, {"mmx", L1D, 23, 0}, {"fxsr", L1D, 24, 0}, {"sse", L1D, 25, 0},
    {"sse2", L1D, 26, 0}, {"x87", L1D, 0, 0},
    {"fsgsbase", L7B, 0, 0}, {"bmi", L7B, 3, 0}, {"avx2", L7B, 5, NEEDS_YMM}, {"bmi2", L7B, 8, 0},
    {"invpcid", L7B, 10, 0}, {"rtm", L7B, 11, 0}, {"avx512f", L7B, 16, NEEDS_ZMM}, {"avx512dq", L7B, 17, NEEDS_ZMM},
    {"rdseed", L7B, 18, 0}, {"adx", L7B, 19, 0}, {"avx512ifma", L7B, 21, NEEDS_ZMM}, {"clflushopt", L7B, 23, 0},
    {"clwb", L7B, 24, 0}, {"avx512cd", L7B, 28, NEEDS_ZMM}, {"sha", L7B, 29, 0}, {"avx512bw", L7B, 30, NEEDS_ZMM},
    {"avx512vl", L7B, 31, NEEDS_ZMM},
    {"avx512vbmi", L7C, 1, NEEDS_ZMM}, {"pku", L7C, 4, 0}, {"waitpkg", L7C, 5, 0}, {"avx512vbmi2", L7C, 6, NEEDS_ZMM},
    {"shstk", L7C, 7, 0}, {"gfni", L7C, 8, 0}, {"vaes", L7C, 9, NEEDS_YMM}, {"vpclmulqdq", L7C, 10, NEEDS_YMM},
    {"avx512vnni", L7C, 11, NEEDS_ZMM}, {"avx512bitalg", L7C, 12, NEEDS_ZMM},
    {"avx512vpopcntdq", L7C, 14, NEEDS_ZMM}, {"rdpid", L7C, 22, 0}, {"kl", L7C, 23, 0}, {"cldemote", L7C, 25, 0},
    {"movdiri", L7C, 27, 0}, {"movdir64b", L7C, 28, 0}, {"enqcmd", L7C, 29, 0},
    {"uintr", L7D, 5, 0}, {"avx512vp2intersect", L7D, 8, NEEDS_ZMM}, {"serialize", L7D, 14, 0},
    {"tsxldtrk", L7D, 16, 0}, {"pconfig", L7D, 18, 0}, {"amx-bf16", L7D, 22, NEEDS_TILE},
    {"avx512fp16", L7D, 23, NEEDS_ZMM}, {"amx-tile", L7D, 24, NEEDS_TILE}, {"amx-int8", L7D, 25, NEEDS_TILE},
    {"sha512", L71A, 0, 0}, {"sm3", L71A, 1, 0}, {"sm4", L71A, 2, 0}, {"raoint", L71A, 3, 0},
    {"avxvnni", L71A, 4, NEEDS_YMM}, {"avx512bf16", L71A, 5, NEEDS_ZMM}, {"cmpccxadd", L71A, 7, 0},
    {"amx-fp16", L71A, 21, NEEDS_TILE}, {"hreset", L71A, 22, 0}, {"avxifma", L71A, 23, NEEDS_YMM},
    {"avxvnniint8", L71D, 4, NEEDS_YMM}, {"avxneconvert", L71D, 5, NEEDS_YMM}, {"amx-complex", L71D, 8, NEEDS_TILE},
    {"avxvnniint16", L71D, 10, NEEDS_YMM}, {"prefetchi", L71D, 14, 0}, {"usermsr", L71D, 15, 0},
    {"sahf", E1C, 0, 0}, {"lzcnt", E1C, 5, 0}, {"sse4a", E1C, 6, 0}, {"prfchw", E1C, 8, 0}, {"xop", E1C, 11, NEEDS_YMM},
    {"lwp", E1C, 15, 0}, {"fma4", E1C, 16, NEEDS_YMM}, {"tbm", E1C, 21, 0}, {"mwaitx", E1C, 29, 0},
    {"64bit", E1D, 29, 0}, {"clzero", E8B, 0, 0}, {"rdpru", E8B, 4, 0}, {"wbnoinvd", E8B, 9, 0},
    {"xsaveopt", LD1A, 0, 0}, {"xsavec", LD1A, 1, 0}, {"xsaves", LD1A, 3, 0}, {"ptwrite", L14B, 4, 0},
    {"widekl", L19B, 2, 0},
};

typedef struct planish_cpu {
  uint32_t word[REGISTERS];
  uint64_t state; /* XCR0: the registers that the operating system saves */
} planish_cpu;

static planish_cpu identify(void) {
  planish_cpu cpu = {{0}, 0};
  uint32_t a, b, c, d, unused;
  if (__get_cpuid(1, &a, &b, &cpu.word[L1C], &cpu.word[L1D]) && cpu.word[L1C] >> 27 & 1) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    cpu.state = (uint64_t)high << 32 | low;
  }
  if (__get_cpuid_count(7, 0, &a, &cpu.word[L7B], &cpu.word[L7C], &cpu.word[L7D]) && a >= 1)
    __get_cpuid_count(7, 1, &cpu.word[L71A], &unused, &c, &cpu.word[L71D]);
  __get_cpuid_count(0xD, 1, &cpu.word[LD1A], &b, &c, &d);
  __get_cpuid_count(0x14, 0, &a, &cpu.word[L14B], &c, &d);
  __get_cpuid_count(0x19, 0, &a, &cpu.word[L19B], &c, &d);
  __get_cpuid(0x80000001u, &a, &b, &cpu.word[E1C], &cpu.word[E1D]);
  __get_cpuid(0x80000008u, &a, &cpu.word[E8B], &c, &d);
  return cpu;
}

static bool has(const char *name) {
  static planish_cpu cpu;
  static atomic_int known;
  if (!atomic_load_explicit(&known, memory_order_acquire)) {
    planish_cpu found = identify();
    cpu = found; /* threads that race write the same bytes */
    atomic_store_explicit(&known, 1, memory_order_release);
  }
  for (size_t i = 0; i < sizeof FEATURES / sizeof *FEATURES; i++) {
    const planish_feature *f = &FEATURES[i];
    if (!strcmp(f->name, name)) return (cpu.word[f->word] >> f->bit & 1) && (cpu.state & f->state) == f->state;
  }
  return false; /* unknown: refuse rather than crash */
}

/* A name for --cpu that fits this CPU. */
static const char *common(void) {
  return has("avx2") && has("bmi2") && has("fma") && has("f16c") && has("movbe") ? "x86-64-v3" : "x86-64";
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static bool has(const char *name) {
  /* Source: Linux, arch/arm64/include/uapi/asm/hwcap.h */
  static const struct {
    const char *name;
    uint8_t word, bit;
  } features[] = {{"fp-armv8", 0, 0}, {"neon", 0, 1}, {"aes", 0, 3}, {"sha2", 0, 6}, {"crc", 0, 7}, {"lse", 0, 8},
                  {"fullfp16", 0, 10}, {"rdm", 0, 12}, {"jsconv", 0, 13}, {"complxnum", 0, 14}, {"rcpc", 0, 15},
                  {"dotprod", 0, 20}, {"sve", 0, 22}, {"fp16fml", 0, 23}, {"sve2", 1, 1}, {"i8mm", 1, 13},
                  {"bf16", 1, 14}};
  unsigned long words[2] = {getauxval(AT_HWCAP), getauxval(AT_HWCAP2)};
  for (size_t i = 0; i < sizeof features / sizeof *features; i++)
    if (!strcmp(features[i].name, name)) return words[features[i].word] >> features[i].bit & 1;
  return false;
}

/* A name for --cpu that fits this CPU. */
static const char *common(void) { return "generic"; }

#else
static bool has(const char *name) { return (void)name, false; }
static const char *common(void) { return "generic"; }
#endif

planish_status planish_check_cpu(const char *const *features, uint32_t count, planish_message *message) {
  char missing[640] = "";
  size_t used = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (has(features[i]) || used + 40 > sizeof missing) continue;
    used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%.30s", used ? ", " : "", features[i]);
  }
  if (!used) return PLANISH_OK;
  return planish_say(message, PLANISH_UNSUPPORTED_CPU,
                     "this CPU lacks features that the code was compiled for: %s; compile the model for an older CPU, "
                     "for example with --cpu %s",
                     missing, common());
}
