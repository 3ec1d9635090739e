/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A private member: kvd as a child, with its data in one directory, reached by a
 * socket in it. It ends with us, also where we are killed.
 */
#ifndef ETCFS_STANDALONE_H
#define ETCFS_STANDALONE_H

#include <stddef.h>

#include "etcfs/options.h"

struct standalone;

/* Starts it and waits until it takes connections. */
int standalone_start(const struct config *config, struct standalone **out, char *why,
		     size_t why_size);
/* unix://DIR/client.sock */
const char *standalone_endpoint(const struct standalone *standalone);
/* Stops it and waits for its end. NULL is fine. */
void standalone_stop(struct standalone *standalone);

#endif
