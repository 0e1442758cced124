"""What each precision is: number formats, their algorithm, and the budget that the gate holds them to.

It knows `contract`, and neither graphs nor torch.
"""
