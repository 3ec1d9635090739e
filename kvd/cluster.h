/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is in the cluster. Members come and go by configuration changes in the log,
 * say their name and client URLs of themselves by another entry, and are kept as
 * small records of the store.
 *
 * Ids are etcd's: a member's is the first 8 bytes, big-endian, of the SHA-1 of its
 * sorted peer URLs and the cluster's token; the cluster's, of the SHA-1 of its first
 * members' ids. Source: etcd server/etcdserver/api/membership.
 */
#ifndef KVD_CLUSTER_H
#define KVD_CLUSTER_H

#include "include/slice.h"
#include "lib/proto/membership.pb-c.h"
#include "libmvcc/mvcc.h"
#include "libraft/raft.h"

struct member {
	uint64_t id;
	char *name;			/* "" until the member has said it */
	char **peer_urls, **client_urls;
	size_t n_peer_urls, n_client_urls;
	bool learner;
};

#define MEMBERS_MAX 64

struct cluster {
	struct member *members;		/* by id */
	size_t n_members;
	char version[16];		/* "3.7.0"; "" until the cluster has agreed on one */
};

void cluster_release(struct cluster *cluster);
struct member *cluster_find(const struct cluster *cluster, uint64_t id);

uint64_t cluster_member_id(const char *const *peer_urls, size_t n, const char *token);
uint64_t cluster_id(const uint64_t *member_ids, size_t n);

/* The log entry that adds a member when a cluster is made, and what is in one. */
struct blob *cluster_encode_add(uint64_t change_id, uint64_t member_id,
				const char *const *peer_urls, size_t n, const char *name);
/* Decodes a committed change. @out points into @single, which holds one change.
 * -EBADMSG: not one that this version knows. */
int cluster_decode_change(const struct raft_entry *entry, struct raft_conf_single *single,
			  struct raft_conf_change *out);

/* From a record of the store. */
int cluster_load(struct cluster *cluster, struct slice record);
/* Log entries, applied; they write their record. */
int cluster_apply_change(struct cluster *cluster, struct mvcc *store,
			 const struct raft_entry *entry);
int cluster_apply_attributes(struct cluster *cluster, struct mvcc *store,
			     const Membershippb__ClusterMemberAttrSetRequest *request);
int cluster_apply_version(struct cluster *cluster, struct mvcc *store,
			  const Membershippb__ClusterVersionSetRequest *request);

#endif
