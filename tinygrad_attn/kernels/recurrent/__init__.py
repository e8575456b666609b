"""RNN, GRU and LSTM over whole sequences, and the GRU that attends before each step."""
