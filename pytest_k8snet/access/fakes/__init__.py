"""What healthy nodes answer to the programs of measurements that send packets: one module of the same name for each."""
