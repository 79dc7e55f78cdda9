"""What only a kernel with IPsec can show: run by `make test-kernel`, in a virtual machine (`boot.py`)."""
