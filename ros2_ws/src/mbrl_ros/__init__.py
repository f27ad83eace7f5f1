"""ROS 2 nodes over mbrl_core, and the graph that starts them."""
