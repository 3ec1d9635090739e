// SPDX-License-Identifier: Apache-2.0
/*
 * The unary methods of the v3 API that the client knows, with what it may do to them:
 * a CLIENT_READ changes nothing and may be sent twice.
 */
#include "lib/client.h"

#define METHOD(name, kind_, path_, response_)					\
	const struct client_method client_##name = {				\
		.path = "/etcdserverpb." path_,					\
		.kind = kind_,							\
		.response = &etcdserverpb__##response_##__descriptor,		\
	}

METHOD(kv_range, CLIENT_READ, "KV/Range", range_response);
METHOD(kv_put, CLIENT_WRITE, "KV/Put", put_response);
METHOD(kv_delete_range, CLIENT_WRITE, "KV/DeleteRange", delete_range_response);
METHOD(kv_txn, CLIENT_WRITE, "KV/Txn", txn_response);
METHOD(kv_compact, CLIENT_WRITE, "KV/Compact", compaction_response);
METHOD(lease_grant, CLIENT_WRITE, "Lease/LeaseGrant", lease_grant_response);
METHOD(lease_revoke, CLIENT_WRITE, "Lease/LeaseRevoke", lease_revoke_response);
METHOD(lease_time_to_live, CLIENT_READ, "Lease/LeaseTimeToLive", lease_time_to_live_response);
METHOD(lease_leases, CLIENT_READ, "Lease/LeaseLeases", lease_leases_response);
METHOD(cluster_member_list, CLIENT_READ, "Cluster/MemberList", member_list_response);
METHOD(maintenance_status, CLIENT_READ, "Maintenance/Status", status_response);
METHOD(maintenance_alarm, CLIENT_WRITE, "Maintenance/Alarm", alarm_response);
METHOD(maintenance_hash_kv, CLIENT_READ, "Maintenance/HashKV", hash_kvresponse);
METHOD(maintenance_defragment, CLIENT_WRITE, "Maintenance/Defragment", defragment_response);
