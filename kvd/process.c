// SPDX-License-Identifier: Apache-2.0

/* What every Prometheus client says of its process. */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kvd/process.h"

/* The file's beginning, as text; empty where it cannot be read. */
static void read_text(const char *path, char *out, size_t size)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(out, 1, size - 1, f) : 0;

	out[n] = 0;
	if (f)
		fclose(f);
}

static void read_memory(struct process *p)
{
	double page = (double)sysconf(_SC_PAGESIZE);
	unsigned long virtual_pages, resident_pages;
	char text[256];

	read_text("/proc/self/statm", text, sizeof(text));
	if (sscanf(text, "%lu %lu", &virtual_pages, &resident_pages) != 2)
		return;
	p->virtual_bytes = (double)virtual_pages * page;
	p->resident_bytes = (double)resident_pages * page;
}

static double cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Since the epoch: the boot's time, and the start's since then. */
static double start_seconds(void)
{
	static char text[1 << 16];
	unsigned long long boot, start;
	char *at;

	read_text("/proc/stat", text, sizeof(text));
	at = strstr(text, "\nbtime ");
	if (!at || sscanf(at, "\nbtime %llu", &boot) != 1)
		return 0;
	/* the 22nd field; the name, the second, is in brackets and may hold blanks */
	read_text("/proc/self/stat", text, sizeof(text));
	at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at || sscanf(at, "%llu", &start) != 1)
		return 0;
	return (double)boot + (double)start / (double)sysconf(_SC_CLK_TCK);
}

static double count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;
	double n = 0;

	if (!dir)
		return 0;
	while ((e = readdir(dir)))
		n += e->d_name[0] != '.';
	closedir(dir);
	return n - 1;	/* but for the directory itself */
}

/* No limit reads as the largest number that there is, as in Go's client. */
static double limit_of(int resource)
{
	struct rlimit limit = { 0 };

	getrlimit((__rlimit_resource_t)resource, &limit);
	return (double)limit.rlim_cur;
}

void process_read(struct process *out)
{
	*out = (struct process){
		.cpu_seconds = cpu_seconds(),
		.start_seconds = start_seconds(),
		.open_fds = count_fds(),
		.max_fds = limit_of(RLIMIT_NOFILE),
		.max_virtual_bytes = limit_of(RLIMIT_AS),
	};
	read_memory(out);
}
