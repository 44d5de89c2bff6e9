extension MLComputeDevice {
    /// The devices of the machine; here those that a Mac has.
    public static var allComputeDevices: [MLComputeDevice] {
        [
            .cpu(MLCPUComputeDevice()), .gpu(MLGPUComputeDevice()),
            .neuralEngine(MLNeuralEngineComputeDevice()),
        ]
    }
}
