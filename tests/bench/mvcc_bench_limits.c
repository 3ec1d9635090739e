// SPDX-License-Identifier: Apache-2.0
/*
 * What this machine can do at all: memory, and Berkeley DB in its own use, with the
 * settings that libmvcc gives it, keys and values of the same sizes, on one thread.
 */
#include <sys/types.h>

#include <db.h>
#include <stdio.h>
#include <stdlib.h>

#include "include/endian_bytes.h"
#include "tests/bench/bench.h"

#define RECORD (VALUE_LEN + NAME_LEN + 16)	/* an encoded KeyValue, about */
#define OLD_BLOCKS 4096
#define CHASE_BYTES ((size_t)256 << 20)

/* --- memory --------------------------------------------------------------- */

static void limit_memcpy(struct bench *b)
{
	uint8_t *to = malloc((size_t)OLD_BLOCKS * RECORD), from[RECORD] = { 1 };
	struct lap lap;

	BUG_ON(!to);
	memset(to, 0, (size_t)OLD_BLOCKS * RECORD);
	lap = lap_begin(b->n * 8);
	for (size_t i = 0; i < b->n * 8; i++) {
		lap_tick(&lap, i);
		from[i % RECORD]++;
		memcpy(to + i % OLD_BLOCKS * RECORD, from, RECORD);
	}
	lap_end(&lap, "memcpy of 304 bytes");
	BUG_ON(to[0] == 0 && to[1] == 0 && to[2] == 0);
	free(to);
}

static void limit_malloc(struct bench *b)
{
	void *blocks[OLD_BLOCKS] = { 0 };
	struct lap lap = lap_begin(b->n * 4);

	for (size_t i = 0; i < b->n * 4; i++) {
		lap_tick(&lap, i);
		free(blocks[i % OLD_BLOCKS]);
		blocks[i % OLD_BLOCKS] = malloc(RECORD);
		BUG_ON(!blocks[i % OLD_BLOCKS]);
	}
	lap_end(&lap, "malloc and free of 304 bytes");
	for (size_t i = 0; i < OLD_BLOCKS; i++)
		free(blocks[i]);
}

/* Each step depends on the one before and goes to another line of memory. */
static void limit_miss(struct bench *b)
{
	size_t n = CHASE_BYTES / 64, at = 0;
	uint64_t state = 1, (*lines)[8] = malloc(CHASE_BYTES);
	struct lap lap;

	BUG_ON(!lines);
	for (size_t i = 0; i < n; i++)
		lines[i][0] = i;
	/* one cycle through all of them (Sattolo) */
	for (size_t i = n - 1; i > 0; i--) {
		size_t j = bench_random(&state) % i;
		uint64_t t = lines[i][0];

		lines[i][0] = lines[j][0];
		lines[j][0] = t;
	}
	lap = lap_begin(b->n);
	for (size_t i = 0; i < b->n; i++) {
		lap_tick(&lap, i);
		at = lines[at][0];
	}
	lap_end(&lap, "one dependent read in 256 MiB");
	BUG_ON(at >= n);
	free(lines);
}

void bench_limits(struct bench *b)
{
	limit_memcpy(b);
	limit_malloc(b);
	limit_miss(b);
}

/* --- Berkeley DB ---------------------------------------------------------- */

struct raw {
	DB_ENV *env;
	DB *db;
};

static void raw_open(struct raw *raw, const char *dir)
{
	DB_ENV *env;
	DB *db;

	must(db_env_create(&env, 0), "db_env_create");
	must(env->set_cachesize(env, 0, 32u << 20, 1), "set_cachesize");
	must(env->set_lg_bsize(env, 1u << 20), "set_lg_bsize");
	must(env->set_lg_max(env, 32u << 20), "set_lg_max");
	must(env->set_flags(env, DB_TXN_WRITE_NOSYNC, 1), "set_flags");
	must(env->log_set_config(env, DB_LOG_AUTO_REMOVE, 1), "log_set_config");
	must(env->open(env, dir, DB_CREATE | DB_PRIVATE | DB_INIT_TXN | DB_INIT_LOG |
		       DB_INIT_MPOOL | DB_THREAD | DB_RECOVER, 0600), "DB_ENV->open");
	must(db_create(&db, env, 0), "db_create");
	must(db->set_flags(db, DB_CHKSUM), "DB_CHKSUM");
	must(db->set_pagesize(db, 16384), "set_pagesize");
	must(db->open(db, NULL, "raw.db", NULL, DB_BTREE,
		      DB_CREATE | DB_THREAD | DB_AUTO_COMMIT, 0600), "DB->open");
	raw->env = env;
	raw->db = db;
}

static DBT raw_dbt(void *data, size_t len)
{
	return (DBT){ .data = data, .size = (uint32_t)len, .ulen = (uint32_t)len,
		      .flags = DB_DBT_USERMEM };
}

/* The form of a revision's key: 17 bytes, ascending. */
static void raw_key(uint8_t key[17], size_t i)
{
	put_be64(key, i);
	key[8] = '_';
	put_be64(key + 9, 0);
}

static void raw_puts(const struct raw *raw, size_t n)
{
	uint8_t key[17], record[RECORD] = { 0 };
	struct lap lap = lap_begin(n);
	DB_TXN *txn = NULL;

	for (size_t i = 0; i < n; i++) {
		DBT k = raw_dbt(key, sizeof(key)), v = raw_dbt(record, sizeof(record));

		lap_tick(&lap, i);
		if (i % BATCH == 0)
			must(raw->env->txn_begin(raw->env, NULL, &txn, 0), "txn_begin");
		raw_key(key, i);
		put_be64(record, i);
		must(raw->db->put(raw->db, txn, &k, &v, 0), "DB->put");
		if ((i + 1) % BATCH == 0 || i + 1 == n) {
			must(txn->commit(txn, 0), "commit");
			must(raw->env->txn_checkpoint(raw->env, 16u << 10, 0, 0), "checkpoint");
		}
	}
	lap_end(&lap, "raw Berkeley DB: put");
}

static void raw_gets(const struct raw *raw, const struct bench *b)
{
	uint8_t key[17], record[RECORD];
	struct lap lap = lap_begin(b->n);

	for (size_t i = 0; i < b->n; i++) {
		DBT k = raw_dbt(key, sizeof(key)), v = raw_dbt(record, sizeof(record));

		lap_tick(&lap, i);
		raw_key(key, b->order[i]);
		must(raw->db->get(raw->db, NULL, &k, &v, 0), "DB->get");
		BUG_ON(get_be64(record) != b->order[i]);
	}
	lap_end(&lap, "raw Berkeley DB: get, in any order");
}

static void raw_scan(const struct raw *raw, size_t n)
{
	static uint8_t bulk[1 << 20];
	struct lap lap = lap_begin(n);
	DBT k = { 0 }, v = { .data = bulk, .ulen = sizeof(bulk), .flags = DB_DBT_USERMEM };
	size_t seen = 0, bytes = 0, key_len, len;
	const uint8_t *key, *data;
	void *at;
	DBC *cursor;

	must(raw->db->cursor(raw->db, NULL, &cursor, DB_CURSOR_BULK), "cursor");
	while (!cursor->get(cursor, &k, &v, DB_NEXT | DB_MULTIPLE_KEY)) {
		DB_MULTIPLE_INIT(at, &v);
		for (;;) {
			DB_MULTIPLE_KEY_NEXT(at, &v, key, key_len, data, len);
			if (!at)
				break;
			lap_tick(&lap, seen++);
			bytes += key_len + len + key[0] + data[0];
		}
	}
	must(cursor->close(cursor), "cursor");
	lap_end(&lap, "raw Berkeley DB: scan");
	BUG_ON(seen != n || bytes < n * RECORD);
}

void bench_bdb(struct bench *b)
{
	struct raw raw;

	raw_open(&raw, b->dir);
	raw_puts(&raw, b->n);
	raw_gets(&raw, b);
	raw_scan(&raw, b->n);
	must(raw.db->close(raw.db, 0), "DB->close");
	must(raw.env->close(raw.env, 0), "DB_ENV->close");
}
