"""Joint (class x transform) heads of the auxiliary branches."""

from .joint_head import JointHead

__all__ = ['JointHead']
