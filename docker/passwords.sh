#!/bin/sh
# Makes the passwords of store and bus at the first start, and keeps them: for the servers their users as ACL files, with
# hashes alone; for gateway and worker the URLs that they connect by. Each container mounts only the folder that it needs.
#
#   passwords.sh FOLDER    writes FOLDER/{store,bus}/users.acl and FOLDER/{gateway,worker}/urls
set -eu
folder=$1

# Whose keys a user may touch, and with which commands: none that administer the server, but those that tell its state.
# Keys of version 0.1 (ct:…) are looked for, and refused.
store_rules='~{ct}* %R~ct:* &{ct}* +@all -@admin -@dangerous +info +config|get'
bus_rules='~* &* +@all -@admin -@dangerous +info'

new_password() { head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1; }
hash_of() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

# The last file is whole or absent: what a start that was cut off left is made anew.
if [ -e "$folder/bus/users.acl" ]; then exit 0; fi
rm -f "$folder"/*/new

for role in gateway worker; do
  for server in store bus; do
    password=$(new_password)
    eval "rules=\$${server}_rules"
    echo "user $role on #$(hash_of "$password") $rules" >>"$folder/$server/new"
    name=$(echo "$server" | tr a-z A-Z)
    echo "export CONTEXTUNE_${name}_URL=redis://$role:$password@$server:6379/0" >>"$folder/$role/new"
  done
  chmod 444 "$folder/$role/new"
  mv "$folder/$role/new" "$folder/$role/urls"
done
for server in store bus; do
  # For health checks: without a password, and good for nothing else.
  printf 'user default off\nuser health on nopass resetkeys resetchannels -@all +ping\n' >>"$folder/$server/new"
  chmod 444 "$folder/$server/new"
  mv "$folder/$server/new" "$folder/$server/users.acl"
done
