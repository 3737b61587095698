"""siamkd: small, fast Siamese trackers distilled from large ones. No ROS in here.

Data flows one way: sequences -> pairs -> model -> loss -> model file -> tracker.
"""

__version__ = "0.1.0"
