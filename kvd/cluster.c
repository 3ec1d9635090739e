// SPDX-License-Identifier: Apache-2.0

#include <jansson.h>
#include <openssl/sha.h>
#include <stdlib.h>

#include "include/endian_bytes.h"
#include "kvd/cluster.h"
#include "kvd/state.h"
#include "lib/proto/raft.pb-c.h"

static void strings_free(char **strings, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(strings[i]);
	free(strings);
}

static int strings_copy(char *const *from, size_t n, char ***out)
{
	char **copy = calloc(n + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		copy[i] = strdup(from[i]);
		if (!copy[i]) {
			strings_free(copy, i);
			return -ENOMEM;
		}
	}
	*out = copy;
	return 0;
}

static void member_release(struct member *m)
{
	free(m->name);
	strings_free(m->peer_urls, m->n_peer_urls);
	strings_free(m->client_urls, m->n_client_urls);
	*m = (struct member){ 0 };
}

void cluster_release(struct cluster *cluster)
{
	for (size_t i = 0; i < cluster->n_members; i++)
		member_release(&cluster->members[i]);
	free(cluster->members);
	*cluster = (struct cluster){ 0 };
}

struct member *cluster_find(const struct cluster *cluster, uint64_t id)
{
	for (size_t i = 0; i < cluster->n_members; i++)
		if (cluster->members[i].id == id)
			return &cluster->members[i];
	return NULL;
}

/* --- ids ------------------------------------------------------------------ */

static int cmp_str(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

uint64_t cluster_member_id(const char *const *peer_urls, size_t n, const char *token)
{
	unsigned char digest[SHA_DIGEST_LENGTH];
	const char **sorted = calloc(n + 1, sizeof(*sorted));
	size_t size = 0;
	char *text = NULL;
	FILE *f = sorted ? open_memstream(&text, &size) : NULL;

	BUG_ON(!f);	/* at start-up only */
	memcpy(sorted, peer_urls, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), cmp_str);
	for (size_t i = 0; i < n; i++)
		fputs(sorted[i], f);
	fputs(token, f);
	fclose(f);
	SHA1((const unsigned char *)text, size, digest);
	free(text);
	free(sorted);
	return get_be64(digest);
}

uint64_t cluster_id(const uint64_t *member_ids, size_t n)
{
	unsigned char digest[SHA_DIGEST_LENGTH], bytes[8 * MEMBERS_MAX];
	uint64_t sorted[MEMBERS_MAX];

	BUG_ON(!n || n > MEMBERS_MAX);
	memcpy(sorted, member_ids, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), cmp_u64);
	for (size_t i = 0; i < n; i++)
		put_be64(bytes + 8 * i, sorted[i]);
	SHA1(bytes, 8 * n, digest);
	return get_be64(digest);
}

/* --- configuration changes ------------------------------------------------ */

/* etcd's JSON of a member. The id is unsigned, which jansson has no type for. */
static char *member_json(uint64_t member_id, const char *const *peer_urls, size_t n,
			 const char *name)
{
	json_t *urls = json_array(), *name_json = json_string(name);
	char *urls_text, *name_text, *out = NULL;

	for (size_t i = 0; i < n; i++)
		json_array_append_new(urls, json_string(peer_urls[i]));
	urls_text = json_dumps(urls, JSON_COMPACT);
	name_text = json_dumps(name_json, JSON_ENCODE_ANY);
	if (urls_text && name_text &&
	    asprintf(&out, "{\"id\":%llu,\"peerURLs\":%s,\"name\":%s}",
		     (unsigned long long)member_id, urls_text, name_text) < 0)
		out = NULL;
	free(urls_text);
	free(name_text);
	json_decref(urls);
	json_decref(name_json);
	return out;
}

struct blob *cluster_encode_add(uint64_t change_id, uint64_t member_id,
				const char *const *peer_urls, size_t n, const char *name)
{
	Raftpb__ConfChange change = RAFTPB__CONF_CHANGE__INIT;
	char *text = member_json(member_id, peer_urls, n, name);
	struct blob *out;

	if (!text)
		return NULL;
	change.id = change_id;
	change.has_id = change.has_type = change.has_node_id = change.has_context = 1;
	change.type = RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddNode;
	change.node_id = member_id;
	change.context = (ProtobufCBinaryData){ strlen(text), (uint8_t *)text };
	out = pb_pack_blob(&change.base);
	free(text);
	return out;
}

static int unpack_change(const struct raft_entry *entry, struct pb_arena *arena,
			 Raftpb__ConfChange **out)
{
	ProtobufCMessage *message;
	int err;

	if (entry->type != RAFT_ENTRY_CONF_CHANGE || !entry->payload)
		return -EBADMSG;
	err = pb_unpack(&raftpb__conf_change__descriptor, blob_slice(entry->payload), arena,
			&message);
	if (err)
		return err < 0 ? err : -EBADMSG;
	*out = (Raftpb__ConfChange *)message;
	return 0;
}

int cluster_decode_change(const struct raft_entry *entry, struct raft_conf_single *single,
			  struct raft_conf_change *out)
{
	struct pb_arena arena;
	Raftpb__ConfChange *change;
	int err;

	pb_arena_init(&arena);
	err = unpack_change(entry, &arena, &change);
	if (!err) {
		single->type = (enum raft_conf_change_type)change->type;
		single->node_id = change->node_id;
		*out = (struct raft_conf_change){ RAFT_CONF_AUTO, single, 1 };
	}
	pb_arena_release(&arena);
	return err;
}

/* --- records -------------------------------------------------------------- */

static int store_member(struct mvcc *store, const struct member *m)
{
	Membershippb__RaftAttributes raft = MEMBERSHIPPB__RAFT_ATTRIBUTES__INIT;
	Membershippb__Attributes attributes = MEMBERSHIPPB__ATTRIBUTES__INIT;
	Membershippb__Member record = MEMBERSHIPPB__MEMBER__INIT;
	uint8_t key[8];
	struct blob *b;
	int err;

	raft.peer_urls = m->peer_urls;
	raft.n_peer_urls = m->n_peer_urls;
	raft.is_learner = m->learner;
	attributes.name = m->name;
	attributes.client_urls = m->client_urls;
	attributes.n_client_urls = m->n_client_urls;
	record.id = m->id;
	record.raft_attributes = &raft;
	record.member_attributes = &attributes;
	b = pb_pack_blob(&record.base);
	put_be64(key, m->id);
	err = b ? mvcc_record_put(store, BUCKET_MEMBERS, slice_of(key, 8), blob_slice(b)) : -ENOMEM;
	blob_put(b);
	return err;
}

/* Adds an empty member in its place by id. */
static int add_member(struct cluster *cluster, uint64_t id, struct member **out)
{
	struct member *members, *m;
	size_t at = 0;

	if (cluster->n_members == MEMBERS_MAX)
		return -E2BIG;
	members = realloc(cluster->members, (cluster->n_members + 1) * sizeof(*members));
	if (!members)
		return -ENOMEM;
	cluster->members = members;
	while (at < cluster->n_members && members[at].id < id)
		at++;
	memmove(members + at + 1, members + at, (cluster->n_members - at) * sizeof(*members));
	cluster->n_members++;
	m = &members[at];
	*m = (struct member){ .id = id, .name = strdup("") };
	*out = m;
	return m->name ? 0 : -ENOMEM;
}

static int set_attributes(struct member *m, const Membershippb__Attributes *attributes)
{
	char *name = strdup(attributes->name), **urls;

	if (!name || strings_copy(attributes->client_urls, attributes->n_client_urls, &urls)) {
		free(name);
		return -ENOMEM;
	}
	free(m->name);
	strings_free(m->client_urls, m->n_client_urls);
	m->name = name;
	m->client_urls = urls;
	m->n_client_urls = attributes->n_client_urls;
	return 0;
}

int cluster_load(struct cluster *cluster, struct slice record)
{
	ProtobufCMessage *message;
	Membershippb__Member *r;
	struct pb_arena arena;
	struct member *m;
	int err;

	pb_arena_init(&arena);
	err = pb_unpack(&membershippb__member__descriptor, record, &arena, &message);
	if (!err) {
		r = (Membershippb__Member *)message;
		err = add_member(cluster, r->id, &m);
		if (!err && r->member_attributes)
			err = set_attributes(m, r->member_attributes);
		if (!err && r->raft_attributes) {
			err = strings_copy(r->raft_attributes->peer_urls,
					   r->raft_attributes->n_peer_urls, &m->peer_urls);
			m->n_peer_urls = err ? 0 : r->raft_attributes->n_peer_urls;
			m->learner = r->raft_attributes->is_learner;
		}
	}
	pb_arena_release(&arena);
	return err > 0 ? -EBADMSG : err;
}

/* The member that the context of an add describes: etcd's JSON. Its numbers are ids,
 * which may be beyond a signed integer; they are not needed, the entry has them too. */
static int set_from_context(struct member *m, ProtobufCBinaryData context)
{
	json_t *root = json_loadb((const char *)context.data, context.len,
				  JSON_DECODE_INT_AS_REAL, NULL);
	json_t *urls = json_object_get(root, "peerURLs"), *url;
	const char *name = json_string_value(json_object_get(root, "name"));
	size_t i;

	if (!root)
		return -EBADMSG;
	m->peer_urls = calloc(json_array_size(urls) + 1, sizeof(*m->peer_urls));
	json_array_foreach(urls, i, url) {
		if (!m->peer_urls || !json_is_string(url))
			break;
		m->peer_urls[m->n_peer_urls] = strdup(json_string_value(url));
		if (m->peer_urls[m->n_peer_urls])
			m->n_peer_urls++;
	}
	if (name) {
		free(m->name);
		m->name = strdup(name);
	}
	m->learner = json_is_true(json_object_get(root, "isLearner"));
	json_decref(root);
	return m->name && m->peer_urls ? 0 : -ENOMEM;
}

static int remove_member(struct cluster *cluster, struct mvcc *store, uint64_t id)
{
	struct member *m = cluster_find(cluster, id);
	size_t at = (size_t)(m - cluster->members);
	uint8_t key[8];

	if (!m)
		return 0;
	member_release(m);
	memmove(m, m + 1, (cluster->n_members - at - 1) * sizeof(*m));
	cluster->n_members--;
	put_be64(key, id);
	return mvcc_record_delete(store, BUCKET_MEMBERS, slice_of(key, 8));
}

int cluster_apply_change(struct cluster *cluster, struct mvcc *store,
			 const struct raft_entry *entry)
{
	Raftpb__ConfChange *change;
	struct pb_arena arena;
	struct member *m;
	int err;

	pb_arena_init(&arena);
	err = unpack_change(entry, &arena, &change);
	if (!err && change->type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode)
		err = remove_member(cluster, store, change->node_id);
	else if (!err && !cluster_find(cluster, change->node_id)) {
		err = add_member(cluster, change->node_id, &m);
		if (!err)
			err = set_from_context(m, change->context);
		if (!err)
			err = store_member(store, m);
	}
	pb_arena_release(&arena);
	return err;
}

int cluster_apply_attributes(struct cluster *cluster, struct mvcc *store,
			     const Membershippb__ClusterMemberAttrSetRequest *request)
{
	struct member *m = cluster_find(cluster, request->member_id);
	int err;

	if (!m || !request->member_attributes)
		return 0;
	err = set_attributes(m, request->member_attributes);
	return err ? err : store_member(store, m);
}

int cluster_apply_version(struct cluster *cluster, struct mvcc *store,
			  const Membershippb__ClusterVersionSetRequest *request)
{
	snprintf(cluster->version, sizeof(cluster->version), "%s", request->ver);
	return mvcc_record_put(store, BUCKET_META, SLICE_LIT("cluster_version"),
			       slice_str(cluster->version));
}
