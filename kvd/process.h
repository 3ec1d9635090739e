/* SPDX-License-Identifier: Apache-2.0 */
/* What this process uses, and may use. Zero where the system does not say. */
#ifndef KVD_PROCESS_H
#define KVD_PROCESS_H

struct process {
	double cpu_seconds, start_seconds;	/* the latter since the epoch */
	double open_fds, max_fds;
	double resident_bytes, virtual_bytes, max_virtual_bytes;
};

/* On the loop's thread. */
void process_read(struct process *out);

#endif
