# Inside the virtual machine: modules, the disk with Python's files, then the tests. Arguments: the project, Python, options.
set -e
root=$1 python=$2
shift 2
kernel=$root/build/kernel
export PATH=$PATH:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TMPDIR=/run/tmp XDG_STATE_HOME=/run/tmp MCSA_KERNEL_TESTS=1 NO_COLOR=1
echo "$kernel/modprobe" > /proc/sys/kernel/modprobe
modprobe -d "$kernel" -a virtio_blk ext4
mkdir -p /run/python "$TMPDIR"
mount -o ro /dev/vda /run/python
while read -r from to; do mount --bind "$from" "$to"; done < "$kernel/binds"
cd "$root"
exec "$python" -m pytest -p no:cacheprovider -p tests.kernel.table --no-header -v "$@" tests/kernel
