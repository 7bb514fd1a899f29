/* How many CPUs this process may really use: its affinity mask and the quota of its control groups. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

int32_t planish_affinity_count(void) {
  /* The kernel refuses masks smaller than its own; ask with growing ones. */
  for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
    cpu_set_t *set = CPU_ALLOC((size_t)cpus);
    if (!set) break;
    size_t size = CPU_ALLOC_SIZE((size_t)cpus);
    int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count < PLANISH_MAX_THREADS ? count : PLANISH_MAX_THREADS;
  }
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  return online < 1 ? 1 : online < PLANISH_MAX_THREADS ? (int32_t)online : PLANISH_MAX_THREADS;
}

/* Read a small file into `text`; false if it cannot be read. */
static bool slurp(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "re");
  if (!file) return false;
  size_t length = fread(text, 1, size - 1, file);
  fclose(file);
  text[length] = 0;
  return length > 0;
}

static int32_t whole_cpus(long long quota, long long period) {
  if (quota <= 0 || period <= 0) return 0;
  long long count = quota / period + (quota % period != 0);
  return count < PLANISH_MAX_THREADS ? (int32_t)count : PLANISH_MAX_THREADS;
}

static int32_t quota_in(const char *folder, bool unified) {
  char path[2300], text[128];
  long long quota = 0, period = 0;
  if (unified) { /* "max 100000" or "150000 100000" */
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (!slurp(path, text, sizeof text) || sscanf(text, "%lld %lld", &quota, &period) != 2) return 0;
    return whole_cpus(quota, period);
  }
  snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
  if (!slurp(path, text, sizeof text) || sscanf(text, "%lld", &quota) != 1) return 0;
  snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
  if (!slurp(path, text, sizeof text) || sscanf(text, "%lld", &period) != 1) return 0;
  return whole_cpus(quota, period);
}

/* The smallest quota on the way from `group` up to the root of the hierarchy. */
static int32_t quota_upwards(const char *root, const char *group, bool unified) {
  char folder[2200];
  int32_t smallest = 0;
  if ((size_t)snprintf(folder, sizeof folder, "%s%s", root, group) >= sizeof folder) return 0;
  size_t top = strlen(root);
  for (;;) {
    size_t length = strlen(folder);
    while (length > top && folder[length - 1] == '/') folder[--length] = 0;
    int32_t here = quota_in(folder, unified);
    if (here && (!smallest || here < smallest)) smallest = here;
    if (length <= top) return smallest;
    char *slash = strrchr(folder + top, '/');
    if (!slash) return smallest;
    *slash = 0;
  }
}

/* Does the comma-separated list of version 1 controllers hold "cpu"? */
static bool lists_cpu(const char *controllers) {
  for (const char *at = controllers; at; at = strchr(at, ',')) {
    at += *at == ',';
    if (!strncmp(at, "cpu", 3) && (at[3] == 0 || at[3] == ',')) return true;
  }
  return false;
}

int32_t planish_quota_count(const char *proc_cgroup, const char *root) {
  char line[2048], version1[1100];
  int32_t smallest = 0;
  FILE *file = fopen(proc_cgroup, "re");
  if (!file) return 0;
  snprintf(version1, sizeof version1, "%.1000s/cpu", root);
  while (fgets(line, sizeof line, file)) { /* "0::/a/b" (version 2) or "4:cpu,cpuacct:/a/b" (version 1) */
    line[strcspn(line, "\n")] = 0;
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!group) continue;
    *group++ = 0;
    controllers++;
    if (*group != '/' || strstr(group, "/..")) continue; /* "/../x": outside of what is mounted here */
    int32_t here = !*controllers           ? quota_upwards(root, group, true)
                   : lists_cpu(controllers) ? quota_upwards(version1, group, false)
                                            : 0;
    if (here && (!smallest || here < smallest)) smallest = here;
  }
  fclose(file);
  return smallest;
}
