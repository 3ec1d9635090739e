/* SPDX-License-Identifier: Apache-2.0 */
/* Memory kept for reuse by thread and size: see pool_i.h. */
#include "lib/pool_i.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "include/bug.h"

#define CLASSES 9

_Static_assert(POOL_MIN << (CLASSES - 1) == POOL_MAX, "a class for every power of two");

#ifdef __SANITIZE_ADDRESS__
#define KEEPS false
#else
#define KEEPS true
#endif

struct kept {
	struct kept *next;
};

static _Thread_local struct pool {
	struct kept *first[CLASSES];
	size_t bytes[CLASSES];
	bool registered;
} pool;

static pthread_key_t pool_key;
static pthread_once_t pool_once = PTHREAD_ONCE_INIT;

/* A thread ends. */
static void pool_release(void *arg)
{
	struct pool *p = arg;

	for (unsigned i = 0; i < CLASSES; i++) {
		while (p->first[i]) {
			struct kept *kept = p->first[i];

			p->first[i] = kept->next;
			free(kept);
		}
		p->bytes[i] = 0;
	}
	p->registered = false;
}

static void pool_make_key(void)
{
	BUG_ON(pthread_key_create(&pool_key, pool_release));
}

static void pool_register(void)
{
	pthread_once(&pool_once, pool_make_key);
	pool.registered = !pthread_setspecific(pool_key, &pool);
}

static unsigned class_of(size_t rounded)
{
	return (unsigned)__builtin_ctzl(rounded / POOL_MIN);
}

void *pool_alloc(size_t size)
{
	size_t rounded = pool_round(size);
	struct kept *kept;
	unsigned class;

	if (rounded > POOL_MAX)
		return malloc(rounded);
	class = class_of(rounded);
	kept = pool.first[class];
	if (!kept)
		return malloc(rounded);
	pool.first[class] = kept->next;
	pool.bytes[class] -= rounded;
	return kept;
}

void pool_free(void *memory, size_t size)
{
	size_t rounded = pool_round(size);
	size_t max = rounded <= POOL_SMALL ? POOL_KEPT_SMALL : POOL_KEPT_LARGE;
	struct kept *kept = memory;
	unsigned class;

	if (!memory)
		return;
	if (!KEEPS || rounded > POOL_MAX || pool.bytes[class_of(rounded)] >= max) {
		free(memory);
		return;
	}
	if (unlikely(!pool.registered))
		pool_register();
	class = class_of(rounded);
	kept->next = pool.first[class];
	pool.first[class] = kept;
	pool.bytes[class] += rounded;
}
